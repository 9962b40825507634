//! Steps: each `run` in a VM of its own, its changes a layer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use emberbox_core::{BuildErrorCode, BuildStep};
use emberbox_guest::client::ExecEvent;
use emberbox_guest::{ExecSpec, ExitStatus, Export, OutputStream};
use emberbox_image::{Layer, Stack};

use super::guest::{Guest, GuestFailure};
use super::lines::{Lines, Stream};
use super::{BuildEvent, BuildFailure, Work, blocking, shell};

/// How long one step may take: an installation of many packages under
/// software emulation takes a third of it.
const STEP: Duration = Duration::from_secs(30 * 60);

/// Most layers of an image, the one with its settings included: each is a disk
/// of every guest, and a guest takes no more than 25. What would be more is
/// made one.
const MAX_LAYERS: usize = 12;

/// Largest image in bytes, all its layers together: what a host's page cache
/// and artifact source are meant for.
const MAX_IMAGE: u64 = 16 << 30;

/// What is in force for the next command.
struct Setting {
    workdir: String,
    env: BTreeMap<String, String>,
}

impl Work {
    /// Carries the steps out, or finds what they gave before.
    pub(super) async fn steps(&mut self, mut stack: Stack) -> Result<Stack, BuildFailure> {
        let mut env = stack.env.clone();
        env.extend(self.spec.env.clone());
        let mut setting = Setting {
            workdir: self.spec.workdir.clone(),
            env,
        };
        for (index, step) in self.spec.steps.clone().into_iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            setting.change(&step);
            match &step.run {
                Some(command) => stack = self.step(index, command, stack, &setting).await?,
                None => self.tell_step(index, setting_words(&step), false).await?,
            }
            if stack.bytes() > MAX_IMAGE {
                let message = format!("the image is larger than {} GiB", MAX_IMAGE >> 30);
                return Err(BuildFailure::new(BuildErrorCode::ImageTooLarge, message));
            }
        }
        Ok(stack)
    }

    /// Adds what every process of a sandbox gets to know.
    pub(super) async fn configured(&self, mut stack: Stack) -> Result<Stack, BuildFailure> {
        stack.env.extend(self.spec.env.clone());
        let mut variables = String::new();
        for (name, value) in &stack.env {
            variables.push_str(&format!("{name}={value}\0"));
        }
        let (home, dir) = (self.home(), Arc::clone(&self.dir));
        let layer = blocking("pack the settings", move || {
            let files = [("etc/emberbox/template.env", variables.as_bytes())];
            emberbox_image::layer_of_files(&home, &dir, &files)
        });
        stack.layers.push(layer.await?);
        Ok(stack)
    }

    async fn step(
        &mut self,
        index: u32,
        command: &str,
        stack: Stack,
        setting: &Setting,
    ) -> Result<Stack, BuildFailure> {
        let key = self.key(command, &stack, setting);
        let (home, dir, wanted) = (self.home(), Arc::clone(&self.dir), key.clone());
        let found = blocking("look for an earlier result", move || {
            emberbox_image::remembered(&home, &dir, &wanted)
        });
        let found = found.await?;
        self.tell_step(index, command.to_owned(), found.is_some())
            .await?;
        if let Some(found) = found {
            self.cached_steps += 1;
            return Ok(found);
        }
        // One more for this step, and one for the settings.
        let export = if stack.layers.len() + 2 > MAX_LAYERS {
            Export::Everything
        } else {
            Export::Changes
        };
        let vm = self.vm(&stack).await?;
        let made = self.unless_cancelled(async {
            let guest = vm.start(&self.host.parts).await?;
            self.run_command(index, command, &guest, setting).await?;
            guest.layer(self, export).await
        });
        let made: Result<Layer, BuildFailure> = made.await;
        vm.end(&self.host.parts).await;
        let mut after = stack;
        if export == Export::Everything {
            after.layers.clear();
        }
        after.layers.push(made?);
        let (home, result) = (self.home(), after.clone());
        blocking("remember a result", move || {
            emberbox_image::remember(&home, &key, &result)
        })
        .await?;
        Ok(after)
    }

    fn key(&self, command: &str, stack: &Stack, setting: &Setting) -> String {
        let mut parts = vec![command, &setting.workdir, &self.spec.user];
        for (name, value) in &setting.env {
            parts.extend([name.as_str(), value.as_str()]);
        }
        emberbox_image::step_key(stack, &parts)
    }

    async fn run_command(
        &self,
        index: u32,
        command: &str,
        guest: &Guest,
        setting: &Setting,
    ) -> Result<(), BuildFailure> {
        let spec = ExecSpec {
            command: shell::as_user(&self.spec.user, &setting.workdir, command),
            cwd: "/".to_owned(),
            env: setting.env.clone().into_iter().collect(),
            timeout_ms: u64::try_from(STEP.as_millis()).unwrap_or(u64::MAX),
            stdin: false,
        };
        let mut told = Lines::default();
        let (mut stdout, mut stderr) = (Stream::default(), Stream::default());
        let broken = |error: GuestFailure| {
            let message = format!("step {index} broke off: {error}");
            BuildFailure::new(BuildErrorCode::StepFailed, message)
        };
        let call = guest.call(async |client| client.exec(spec).await).await;
        let mut call = call.map_err(broken)?;
        let status = loop {
            let event = guest.call(async |_client| call.next().await).await;
            let lines = match event.map_err(broken)? {
                ExecEvent::Output(OutputStream::Stdout, data) => told.push(&mut stdout, &data),
                ExecEvent::Output(OutputStream::Stderr, data) => told.push(&mut stderr, &data),
                ExecEvent::Exited(status) => break status,
            };
            self.tell_lines(index, lines).await?;
        };
        for stream in [&mut stdout, &mut stderr] {
            let lines = told.rest(stream);
            self.tell_lines(index, lines).await?;
        }
        match status {
            ExitStatus::Code(0) => Ok(()),
            ExitStatus::Code(code) => {
                let message = format!("step {index} ended with exit code {code}");
                Err(BuildFailure::new(BuildErrorCode::StepFailed, message))
            }
            ExitStatus::Signal(signal) => {
                let message = format!("step {index} was ended by signal {signal}");
                Err(BuildFailure::new(BuildErrorCode::StepFailed, message))
            }
            ExitStatus::TimedOut => {
                let minutes = STEP.as_secs() / 60;
                let message = format!("step {index} took longer than {minutes} minutes");
                Err(BuildFailure::new(BuildErrorCode::StepTimeout, message))
            }
        }
    }

    async fn tell_step(
        &self,
        index: u32,
        command: String,
        cached: bool,
    ) -> Result<(), BuildFailure> {
        self.tell(BuildEvent::Step {
            index,
            command,
            cached,
        })
        .await
    }

    async fn tell_lines(&self, step: u32, lines: Vec<String>) -> Result<(), BuildFailure> {
        for line in lines {
            let step = Some(step);
            self.tell(BuildEvent::Output { step, line }).await?;
        }
        Ok(())
    }
}

impl Setting {
    fn change(&mut self, step: &BuildStep) {
        if let Some(workdir) = &step.workdir {
            self.workdir.clone_from(workdir);
        }
        if let Some(env) = &step.env {
            self.env.extend(env.clone());
        }
    }
}

/// What a step says that runs nothing. Values may be secret.
fn setting_words(step: &BuildStep) -> String {
    let workdir = step
        .workdir
        .iter()
        .map(|workdir| format!("workdir {workdir}"));
    let env = step.env.iter().map(|env| {
        let names: Vec<_> = env.keys().map(String::as_str).collect();
        format!("env {}", names.join(" "))
    });
    let words: Vec<_> = workdir.chain(env).collect();
    words.join(", ")
}
