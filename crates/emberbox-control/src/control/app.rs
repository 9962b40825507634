//! Starting the app of a sandbox's template.
//!
//! ```text
//! installing ──▶ starting ──▶ started (answers, or is left to go on starting)
//!      └─────────────┴──────▶ failed: the command's code and its last lines
//! ```
//!
//! Everything runs in the guest: the install command as an exec, the app as a
//! session of its own that outlives it. Both write to [`emberbox_core::app::LOGS_PATH`].
//!
//! Invariants: one start per sandbox at a time; a begun start goes on without
//! its client; what a start came to is in the store before anybody is told.

use std::sync::Arc;
use std::time::Duration;

use emberbox_api::{ErrorCode, Template};
use emberbox_store::{AppRecord, AppStatus, SandboxRecord};
use jiff::Timestamp;

use super::Control;
use crate::{Failure, catalogue};

mod guest;
mod start;

pub(crate) use guest::{follow_spec, tail};
use start::Start;

/// How long the install command may take when nobody says: what most package
/// managers need.
pub(crate) const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// How long to wait for the app to answer when nobody says. Who does not wait
/// can look at `…/artifacts`.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);

/// An app to start; every value is checked already.
#[derive(Debug, Clone)]
pub(crate) struct AppPlan {
    /// Run first.
    pub(crate) install: Option<String>,
    /// Runs the app.
    pub(crate) start: String,
    /// Where its files are.
    pub(crate) workdir: String,
    /// Where it listens.
    pub(crate) port: Option<u16>,
    /// Holds when it answers.
    pub(crate) probe: Option<Probe>,
    /// How long the install command may take.
    pub(crate) install_timeout: Duration,
    /// How long to wait for it to answer.
    pub(crate) start_timeout: Duration,
    /// Who runs it, if not root.
    pub(crate) user: Option<String>,
    /// What becomes of one that runs already.
    pub(crate) running: Running,
}

impl AppPlan {
    /// How the template says it; `None` if it has no app.
    pub(crate) fn of(template: &Template) -> Option<Self> {
        let port = template.preview_port;
        Some(Self {
            install: template.install_command.clone(),
            start: template.start_command.clone()?,
            workdir: template.workdir.clone(),
            port,
            probe: Probe::of_template(template, port),
            user: template.user.clone(),
            install_timeout: INSTALL_TIMEOUT,
            start_timeout: START_TIMEOUT,
            running: Running::IsEnough,
        })
    }
}

/// What becomes of an app that runs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    /// It stays, and the start is refused.
    Stays,
    /// It stays; if it came out of the image's snapshot it is what was asked
    /// for, else the start is refused.
    IsEnough,
    /// If it came out of the image's snapshot it is ended, for it runs what the
    /// image holds and not what was written since; else the start is refused.
    IsStarter,
    /// It is ended.
    IsEnded,
}

/// Tells when an app answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// This address answers below 400.
    Http(String),
    /// Something listens here.
    Tcp(u16),
    /// This exits with 0.
    Command(String),
}

/// An app that was started.
pub(crate) struct StartedApp {
    /// Leads its process group.
    pub(crate) pid: u32,
    /// Whether its probe was satisfied in time.
    pub(crate) ready: bool,
}

impl Control {
    /// Starts the app and waits for it to answer.
    pub(crate) async fn start_app(
        self: &Arc<Self>,
        record: &SandboxRecord,
        plan: AppPlan,
    ) -> Result<StartedApp, Failure> {
        let guest = self.guest(record)?;
        self.take_over_app(record).await?;
        let Some(flight) = self.starting.begin(&record.id) else {
            let message = "the template's app is being started";
            return Err(Failure::new(ErrorCode::ResourceState, message));
        };
        let domain = self.preview_domain(&record.tenant).await?;
        let (control, id) = (Arc::clone(self), record.id.clone());
        let begun = self.tasks.spawn(async move {
            let start = Start {
                control: &control,
                guest,
                id,
                plan,
                domain,
                begun: Timestamp::now(),
            };
            let done = start.run().await;
            drop(flight);
            done
        });
        begun.await.map_err(Failure::internal)?
    }

    /// Starts the app of a sandbox that was created to have it started.
    pub(super) fn auto_start(self: &Arc<Self>, record: SandboxRecord) {
        let control = Arc::clone(self);
        self.tasks.spawn(async move {
            let started = match control.template_of(&record).await {
                Ok(template) => match AppPlan::of(&template) {
                    Some(plan) => control.start_app(&record, plan).await.map(drop),
                    None => Ok(()),
                },
                Err(failure) => Err(failure),
            };
            // The reason is in the store, for whoever asks.
            if let Err(failure) = started {
                tracing::info!(
                    sandbox = %record.id,
                    code = %failure.code(),
                    "the template's app did not start by itself"
                );
            }
        });
    }

    /// Ends the app that came running out of the snapshot of one of the
    /// platform's images, before anybody sees the sandbox: who did not ask for
    /// it brings an app of its own for the same port.
    pub(super) async fn end_starter(&self, record: &SandboxRecord) {
        let is_starter = record.build.is_some() && catalogue::find(&record.template_id).is_some();
        if record.auto_start || record.origin.is_some() || !is_starter {
            return;
        }
        let ended = match self.compute.guest(&record.vm) {
            Ok(guest) => guest::end_starter(&guest).await,
            Err(error) => Err(error.into()),
        };
        // It is in nobody's way but on its port.
        if let Err(failure) = ended {
            let error = failure.chain();
            tracing::warn!(sandbox = %record.id, error, "an app nobody asked for runs on");
        }
    }

    /// The port a sandbox is shown by when nobody names one: its app's, or its
    /// template's.
    pub(crate) async fn app_port(&self, record: &SandboxRecord) -> Result<Option<u16>, Failure> {
        let app = self.store.app(&record.id).await?;
        let port = app.and_then(|app| app.port);
        match port {
            Some(port) => Ok(Some(port)),
            None => self.template_port(record).await,
        }
    }

    /// The last start of a sandbox's app, and whether what it started still
    /// runs.
    pub(crate) async fn app(
        &self,
        record: &SandboxRecord,
    ) -> Result<Option<(AppRecord, bool)>, Failure> {
        if self.guest(record).is_ok() {
            self.take_over_app(record).await?;
        }
        let Some(app) = self.store.app(&record.id).await? else {
            return Ok(None);
        };
        let alive = match (app.pid, self.guest(record)) {
            (Some(pid), Ok(guest)) => guest::is_alive(&guest, pid).await?,
            (Some(_) | None, _) => false,
        };
        Ok(Some((app, alive)))
    }
}

impl Control {
    /// Records the app that came running out of the image's snapshot, unless
    /// an app of the sandbox is known.
    async fn take_over_app(&self, record: &SandboxRecord) -> Result<(), Failure> {
        let Some(build) = &record.build else {
            return Ok(());
        };
        if self.store.app(&record.id).await?.is_some() {
            return Ok(());
        }
        let build = self.store.build_of_sandbox(build).await?;
        let Some((spec, image)) = build.and_then(|build| build.image.map(|i| (build.spec, i)))
        else {
            return Ok(());
        };
        if !image.app_running {
            return Ok(());
        }
        // Another shape than the build's boots without its snapshot.
        let Some(pid) = guest::running_app(&self.guest(record)?).await? else {
            return Ok(());
        };
        let app = AppRecord {
            status: AppStatus::Started,
            workdir: spec.workdir,
            port: spec.preview_port,
            pid: Some(pid),
            ready: true,
            from_snapshot: true,
            error: None,
            started_at: record.ready_at.unwrap_or(record.created_at),
        };
        self.store.put_app(&record.id, &app).await?;
        self.previews_changed();
        Ok(())
    }
}

impl Probe {
    /// What the template says, or something that answers on the port.
    pub(crate) fn of_template(template: &Template, port: Option<u16>) -> Option<Self> {
        let probe = template.readiness_probe.as_ref();
        match probe.and_then(|probe| probe.command.clone()) {
            Some(command) => Some(Self::Command(command)),
            None => port.map(Self::of_port),
        }
    }

    /// Something answers here.
    pub(crate) fn of_port(port: u16) -> Self {
        Self::Http(format!("http://127.0.0.1:{port}"))
    }
}
