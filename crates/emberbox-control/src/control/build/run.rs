//! One build: what the host is asked for, and what it says on the way.

use std::collections::BTreeMap;
use std::io;

use emberbox_core::{BuildErrorCode, BuildState};
use emberbox_host::{
    BuildEvent, BuildFailure, BuildRequest, BuiltImage, RegistryAccess, RegistryCredentials,
};
use emberbox_store::{BuildImage, BuildLine, BuildOutcome, BuildRecord};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::settings::RegistrySettings;
use crate::{Failure, catalogue};

/// Events the host may be ahead of the store; then it waits.
const EVENTS: usize = 256;

/// Longest line of a log, in bytes: what is longer was not written for people.
const LINE_MAX: usize = 8 * 1024;

impl Control {
    /// Runs a build that has begun, to its end.
    pub(super) async fn run_build(&self, build: BuildRecord, cancel: CancellationToken) {
        let outcome = match self.outcome(&build, &cancel).await {
            Ok(built) => BuildOutcome::Built(image(built)),
            Err(failure) => BuildOutcome::Failed(failure.code, failure.message),
        };
        if self.closing.is_cancelled() && matches!(outcome, BuildOutcome::Failed(..)) {
            // The next start begins it again.
            return;
        }
        let finished = self.store.finish_build(&build.id, build.attempt, &outcome);
        match finished.await {
            Ok(Some(finished)) => self.build_changed(&finished),
            // It was cancelled meanwhile.
            Ok(None) => {}
            Err(error) => tracing::error!(
                build = %build.id,
                error = Failure::from(error).chain(),
                "the end of a build could not be recorded; the next start of the server begins it again"
            ),
        }
    }

    async fn outcome(
        &self,
        build: &BuildRecord,
        cancel: &CancellationToken,
    ) -> Result<BuiltImage, BuildFailure> {
        let (events, told) = mpsc::channel(EVENTS);
        let mut spec = build.spec.clone();
        spec.from = self.base(build).await?;
        let request = BuildRequest {
            build: build.id.clone(),
            spec,
            registry: access(&self.settings.builds.registries).await?,
            events,
            cancel: cancel.clone(),
        };
        let (outcome, recorded) = tokio::join!(
            self.compute.build(request),
            self.record(build, told, cancel)
        );
        recorded.map_err(|failure| internal(&failure))?;
        outcome
    }

    /// What a build stands on: the image of another template of its tenant, or
    /// what the spec names.
    async fn base(&self, build: &BuildRecord) -> Result<String, BuildFailure> {
        let from = &build.spec.from;
        // The same for everybody: the platform's are no tenant's own.
        if catalogue::find(from).is_some() {
            return Ok(from.clone());
        }
        let template = self.store.template(&build.tenant, from).await;
        let template = template.map_err(|error| internal(&error.into()))?;
        match template.map(|template| template.ready_build) {
            None => Ok(from.clone()),
            Some(Some(ready)) => Ok(ready.image),
            Some(None) => Err(BuildFailure {
                code: BuildErrorCode::BaseImageNotFound,
                message: format!("no build of the template {from} is ready"),
            }),
        }
    }

    /// Stores what the host says, until it says no more.
    async fn record(
        &self,
        build: &BuildRecord,
        mut told: mpsc::Receiver<BuildEvent>,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(EVENTS);
        while told.recv_many(&mut events, EVENTS).await > 0 {
            if let Err(failure) = self.store_events(build, events.drain(..)).await {
                // Its user would never learn of what it does.
                cancel.cancel();
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn store_events(
        &self,
        build: &BuildRecord,
        events: impl Iterator<Item = BuildEvent>,
    ) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for event in events {
            match event {
                BuildEvent::Entered(phase) => {
                    self.store_lines(build, &mut lines).await?;
                    self.enter(build, phase).await?;
                }
                BuildEvent::Step {
                    index,
                    command,
                    cached,
                } => lines.push(BuildLine::Step {
                    index,
                    command: shortened(command),
                    cached,
                }),
                BuildEvent::Output { step, line } => lines.push(BuildLine::Output {
                    step,
                    line: shortened(line),
                }),
            }
        }
        self.store_lines(build, &mut lines).await
    }

    async fn enter(&self, build: &BuildRecord, phase: BuildState) -> Result<(), Failure> {
        let entered = self
            .store
            .enter_build_phase(&build.id, build.attempt, phase);
        if let Some(entered) = entered.await? {
            self.build_changed(&entered);
        }
        Ok(())
    }

    async fn store_lines(
        &self,
        build: &BuildRecord,
        lines: &mut Vec<BuildLine>,
    ) -> Result<(), Failure> {
        if !lines.is_empty() {
            let appended = self.store.append_build_log(&build.id, build.attempt, lines);
            appended.await?;
            lines.clear();
            self.build_grew(&build.id);
        }
        Ok(())
    }
}

/// How registries are reached now.
async fn access(
    settings: &BTreeMap<String, RegistrySettings>,
) -> Result<RegistryAccess, BuildFailure> {
    let mut access = RegistryAccess::default();
    for (host, registry) in settings {
        if let Some(mirror) = &registry.mirror {
            access.mirrors.insert(host.clone(), mirror.clone());
        }
        if let (Some(username), Some(file)) = (&registry.username, &registry.password_file) {
            let password = tokio::fs::read_to_string(file).await;
            let password = password.map_err(|error| unreadable(host, &error))?;
            let credentials = RegistryCredentials {
                username: username.clone(),
                password: SecretString::from(password.trim_end_matches(['\r', '\n'])),
            };
            access.credentials.insert(host.clone(), credentials);
        }
    }
    Ok(access)
}

fn unreadable(host: &str, error: &io::Error) -> BuildFailure {
    tracing::error!(registry = host, %error, "the password of a registry cannot be read");
    BuildFailure {
        code: BuildErrorCode::Internal,
        message: format!("the password for {host} cannot be read"),
    }
}

fn internal(failure: &Failure) -> BuildFailure {
    tracing::error!(error = failure.chain(), "a build failed inside the server");
    BuildFailure {
        code: BuildErrorCode::Internal,
        message: "internal error".to_owned(),
    }
}

fn image(built: BuiltImage) -> BuildImage {
    BuildImage {
        image: built.image,
        digest: built.digest,
        size_bytes: built.size_bytes,
        layers: built.layers,
        cached_steps: built.cached_steps,
        app_running: built.app_running,
    }
}

/// As much of a line as is kept.
fn shortened(mut line: String) -> String {
    if line.len() > LINE_MAX {
        let end = (0..=LINE_MAX).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
        line.push('…');
    }
    line
}
