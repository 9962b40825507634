//! One start, step by step, in the guest.

use std::time::Duration;

use emberbox_api::ErrorCode;
use emberbox_core::SandboxId;
use emberbox_core::app::{EXIT_PATH, LOGS_PATH, PID_PATH};
use emberbox_guest::ExitStatus;
use emberbox_guest::client::{ExecOutput, GuestClient};
use emberbox_store::{AppRecord, AppStatus};
use jiff::Timestamp;
use serde_json::json;

use super::guest::{self, QUICK, said, tail};
use super::{AppPlan, Probe, Running, StartedApp};
use crate::Failure;
use crate::control::Control;

/// Lines of the log that are told with a failure.
const TAIL_LINES: u32 = 20;

/// What the waiting script exits with when the app has ended; it says the
/// app's own code.
const ENDED: i32 = 3;

/// How often an app without a probe is looked at, every quarter of a second,
/// before it is believed to run: an interpreter in software emulation takes a
/// second to find that its file is missing.
const LOOKS: u32 = 8;

/// One start under way.
pub(super) struct Start<'a> {
    pub(super) control: &'a Control,
    pub(super) guest: GuestClient,
    pub(super) id: SandboxId,
    pub(super) plan: AppPlan,
    /// What the names of its previews end in.
    pub(super) domain: String,
    pub(super) begun: Timestamp,
}

impl Start<'_> {
    pub(super) async fn run(&self) -> Result<StartedApp, Failure> {
        if let Some(app) = self.make_room().await? {
            return Ok(app);
        }
        let started = self.steps().await;
        let (status, pid, ready, error) = match &started {
            Ok(app) => (AppStatus::Started, Some(app.pid), app.ready, None),
            Err(failure) => {
                let message = failure.message.clone();
                (AppStatus::Failed, None, false, Some(message))
            }
        };
        self.record(status, pid, ready, error).await?;
        started
    }

    /// Ends what runs, if that is wanted; or says that it is enough.
    async fn make_room(&self) -> Result<Option<StartedApp>, Failure> {
        let app = self.control.store.app(&self.id).await?;
        let Some((app, pid)) = app.and_then(|app| app.pid.map(|pid| (app, pid))) else {
            return Ok(None);
        };
        if !guest::is_alive(&self.guest, pid).await? {
            return Ok(None);
        }
        match self.plan.running {
            Running::IsEnough if app.from_snapshot => Ok(Some(StartedApp {
                pid,
                ready: app.ready,
            })),
            Running::IsStarter if app.from_snapshot => self.end(pid).await,
            Running::Stays | Running::IsEnough | Running::IsStarter => {
                let message = format!(
                    "the template's app runs already (pid {pid}); \
                     send \"restart\": true to end it first"
                );
                let failure = Failure::new(ErrorCode::ResourceState, message);
                Err(failure.with_details(json!({ "pid": pid })))
            }
            Running::IsEnded => self.end(pid).await,
        }
    }

    /// Ends what runs. It leads a session: the group is everything it started,
    /// unless that took care to get away.
    async fn end(&self, pid: u32) -> Result<Option<StartedApp>, Failure> {
        let script = format!(
            "kill -TERM -{pid} 2>/dev/null; \
             for i in $(seq 50); do kill -0 -{pid} 2>/dev/null || exit 0; sleep 0.1; done; \
             kill -KILL -{pid} 2>/dev/null; exit 0"
        );
        // Its own directory may not be there yet.
        self.exec_in("/", &script, Vec::new(), QUICK).await?;
        Ok(None)
    }

    async fn steps(&self) -> Result<StartedApp, Failure> {
        let plan = &self.plan;
        self.record(AppStatus::Installing, None, false, None)
            .await?;
        self.prepare().await?;
        if let Some(install) = &plan.install {
            let script = format!(
                r#"install=$EMBERBOX_COMMAND; unset EMBERBOX_COMMAND
                printf '$ %s\n' "$install" >>{LOGS_PATH}
                exec bash -c "$install" >>{LOGS_PATH} 2>&1"#
            );
            let env = self.env(install);
            let done = self.exec(&script, env, plan.install_timeout).await?;
            match done.status {
                ExitStatus::Code(0) => {}
                ExitStatus::TimedOut => {
                    let seconds = plan.install_timeout.as_secs();
                    let what = format!("the install command ran over its {seconds} s");
                    return Err(self.failed("install", what).await);
                }
                ExitStatus::Code(code) | ExitStatus::Signal(code) => {
                    let what = format!("the install command failed with {code}");
                    return Err(self.failed("install", what).await);
                }
            }
        }
        let pid = self.launch().await?;
        self.record(AppStatus::Starting, Some(pid), false, None)
            .await?;
        let ready = self.wait_ready(pid).await?;
        Ok(StartedApp { pid, ready })
    }

    /// An empty log, and the working directory.
    async fn prepare(&self) -> Result<(), Failure> {
        let script = format!(
            r#"mkdir -p /tmp/miosa-run "$EMBERBOX_COMMAND" && : >{LOGS_PATH} &&
            rm -f {PID_PATH} {EXIT_PATH}*"#
        );
        let env = vec![("EMBERBOX_COMMAND".to_owned(), self.plan.workdir.clone())];
        let done = self.exec_in("/", &script, env, QUICK).await?;
        match done.status {
            ExitStatus::Code(0) => Ok(()),
            ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::TimedOut => {
                let why = said(&done.stderr);
                Err(app_failed(
                    "install",
                    format!("the sandbox cannot take an app: {why}"),
                    "",
                ))
            }
        }
    }

    /// Runs the app below a shell that waits for its end and keeps its code.
    async fn launch(&self) -> Result<u32, Failure> {
        let as_user = self.plan.user.as_deref().map(guest::as_user);
        let as_user = as_user.unwrap_or_default();
        let script = format!(
            r#"start=$EMBERBOX_COMMAND; unset EMBERBOX_COMMAND
            printf '$ %s\n' "$start" >>{LOGS_PATH}
            (
                setsid {as_user} bash -c "$start" >>{LOGS_PATH} 2>&1 </dev/null &
                echo $! >{PID_PATH}; echo $!
                exec >/dev/null 2>&1 </dev/null
                wait $!; echo $? >{EXIT_PATH}$!
            ) &
            until [ -s {PID_PATH} ]; do sleep 0.02; done"#
        );
        let done = self
            .exec(&script, self.env(&self.plan.start), QUICK)
            .await?;
        match said(&done.stdout).parse() {
            Ok(pid) => Ok(pid),
            Err(_) => Err(self
                .failed("start", "the start command could not be run".to_owned())
                .await),
        }
    }

    /// Whether the app answers in time. One that ends before it has is a
    /// failure; one that has nothing to answer may end when it is done.
    async fn wait_ready(&self, pid: u32) -> Result<bool, Failure> {
        let lives = guest::lives(pid);
        let ended = format!(
            "{{ for i in $(seq 100); do [ -s {EXIT_PATH}{pid} ] && break; sleep 0.02; done; \
             cat {EXIT_PATH}{pid}; exit {ENDED}; }}"
        );
        let (script, env) = match &self.plan.probe {
            Some(probe) => {
                let holds = probe.script();
                let script = format!(
                    "until {holds}; do {lives} || {ended}; sleep 0.25; done; {lives} || {ended}"
                );
                (script, probe.env())
            }
            None => {
                let script =
                    format!("for i in $(seq {LOOKS}); do {lives} || {ended}; sleep 0.25; done");
                (script, Vec::new())
            }
        };
        let done = self.exec(&script, env, self.plan.start_timeout).await?;
        match done.status {
            ExitStatus::Code(0) => Ok(true),
            ExitStatus::Code(ENDED) => {
                let code = said(&done.stdout);
                let what = match &self.plan.probe {
                    None if code == "0" => return Ok(true),
                    None => format!("the app ended with {code}"),
                    Some(_) => format!("the app ended with {code} before it answered"),
                };
                Err(self.failed("start", what).await)
            }
            // Out of time: what has nothing to answer runs, and that is all.
            ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::TimedOut => {
                Ok(self.plan.probe.is_none())
            }
        }
    }

    fn env(&self, command: &str) -> Vec<(String, String)> {
        let mut env = vec![("EMBERBOX_COMMAND".to_owned(), command.to_owned())];
        if let Some(port) = self.plan.port {
            env.push(("PORT".to_owned(), port.to_string()));
            env.push(("HOST".to_owned(), "0.0.0.0".to_owned()));
        }
        // Vite answers only for names it knows; this adds one, with all below it
        // (vite/src/node/config.ts).
        let name = "__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS";
        env.push((name.to_owned(), format!(".{}", self.domain)));
        env
    }

    async fn exec(
        &self,
        script: &str,
        env: Vec<(String, String)>,
        timeout: Duration,
    ) -> Result<ExecOutput, Failure> {
        self.exec_in(&self.plan.workdir, script, env, timeout).await
    }

    async fn exec_in(
        &self,
        cwd: &str,
        script: &str,
        env: Vec<(String, String)>,
        timeout: Duration,
    ) -> Result<ExecOutput, Failure> {
        guest::exec(&self.guest, cwd, script, env, timeout).await
    }

    async fn failed(&self, stage: &str, what: String) -> Failure {
        let tail = match tail(&self.guest, TAIL_LINES).await {
            Ok(lines) => lines.join("\n"),
            Err(_lost) => String::new(),
        };
        app_failed(stage, what, &tail)
    }

    async fn record(
        &self,
        status: AppStatus,
        pid: Option<u32>,
        ready: bool,
        error: Option<String>,
    ) -> Result<(), Failure> {
        let app = AppRecord {
            status,
            workdir: self.plan.workdir.clone(),
            port: self.plan.port,
            pid,
            ready,
            from_snapshot: false,
            error,
            started_at: self.begun,
        };
        self.control.store.put_app(&self.id, &app).await?;
        self.control.previews_changed();
        Ok(())
    }
}

impl Probe {
    /// A command that exits with 0 when the probe holds.
    fn script(&self) -> String {
        match self {
            Self::Http(_) => {
                r#"curl -fsS -o /dev/null --max-time 5 "$EMBERBOX_PROBE" 2>/dev/null"#.to_owned()
            }
            Self::Tcp(port) => format!("(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null"),
            Self::Command(_) => r#"bash -c "$EMBERBOX_PROBE" >/dev/null 2>&1"#.to_owned(),
        }
    }

    fn env(&self) -> Vec<(String, String)> {
        match self {
            Self::Http(text) | Self::Command(text) => {
                vec![("EMBERBOX_PROBE".to_owned(), text.clone())]
            }
            Self::Tcp(_) => Vec::new(),
        }
    }
}

fn app_failed(stage: &str, what: String, log_tail: &str) -> Failure {
    let details = json!({ "stage": stage, "log_tail": log_tail, "logs_path": LOGS_PATH });
    Failure::new(ErrorCode::TemplateStartFailed, what).with_details(details)
}
