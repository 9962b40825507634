//! The control plane's state and its life.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use emberbox_core::{BatchId, SandboxId, SandboxState};
use emberbox_guest::client::GuestClient;
use emberbox_host::HostEvent;
use emberbox_store::{RequestKey, SandboxRecord, Store, Transition};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compute::Compute;
use crate::preview::shown::ShownCache;
use crate::terminal_token::TerminalKey;
use crate::{Failure, Settings};

mod activity;
mod alarm;
pub(crate) mod app;
mod batch;
mod build;
mod callers;
mod code;
mod create;
mod deploy;
mod destroy;
mod env;
mod exec;
mod feed;
mod history;
mod in_flight;
mod janitor;
mod meter;
mod once;
mod pause;
mod policy;
mod rates;
mod reconcile;
mod samples;
mod snapshot;
pub(crate) mod template;
mod wake;

use activity::Activity;
pub(crate) use activity::Use;
use alarm::Alarm;
use build::Builds;
pub(crate) use build::next_build_change;
use code::BusyContexts;
pub(crate) use code::{Context, Language};
pub(crate) use create::{Asked, Timing};
pub(crate) use deploy::Route;
use deploy::Routes;
pub(crate) use exec::{Ending, RunningExec, TIMED_OUT, exit_code};
use feed::Feeds;
pub(crate) use feed::{Feed, Piece};
pub(crate) use history::Kept;
use in_flight::InFlight;
pub(crate) use once::answer_lost;
use rates::Rates;
pub(crate) use samples::Sample;
use samples::Samples;
pub(crate) use snapshot::NewFork;
use wake::Wakes;

/// Announced changes a slow waiter may be behind. One that falls further
/// behind reads the store again, so the number costs nothing but that read.
const CHANGES: usize = 256;

/// How long [`Control::close`] waits for begun operations. What is not done by
/// then is finished by the next start.
const CLOSE_WAIT: Duration = Duration::from_secs(20);

/// One control plane over one store and one host.
pub struct Control {
    store: Store,
    compute: Box<dyn Compute>,
    settings: Settings,
    /// Where previews are reached unless the settings say otherwise.
    port: OnceLock<u16>,
    /// Which sandboxes changed their state; sent after the change is stored.
    changes: broadcast::Sender<SandboxId>,
    /// Which batches changed; sent after the change is stored.
    batch_changes: broadcast::Sender<BatchId>,
    builds: Builds,
    /// Wakes who looks whether a key still works.
    keys: watch::Sender<()>,
    rates: Rates,
    feeds: Feeds,
    terminal_key: TerminalKey,
    creating: InFlight<SandboxId>,
    destroying: InFlight<SandboxId>,
    /// Pauses, resumes, snapshots, restores and forks.
    changing: InFlight<SandboxId>,
    activity: Activity,
    /// Apps of templates.
    starting: InFlight<SandboxId>,
    /// Requests with a key of their own.
    answering: InFlight<RequestKey>,
    routes: Routes,
    shown: ShownCache,
    samples: Samples,
    busy_contexts: BusyContexts,
    wakes: Wakes,
    /// Wakes the janitor: a deadline may be nearer than it knows.
    janitor: Alarm,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Control {
    /// Makes store and host agree, then keeps them so. When this returns,
    /// every sandbox that survived is usable.
    pub async fn start(
        store: Store,
        compute: impl Compute,
        events: mpsc::Receiver<HostEvent>,
        settings: Settings,
    ) -> Result<Arc<Self>, Failure> {
        let terminal_key = match &settings.terminal_key {
            Some(path) => TerminalKey::open(path).map_err(Failure::internal)?,
            None => TerminalKey::random(),
        };
        let control = Arc::new(Self {
            store,
            compute: Box::new(compute),
            settings,
            port: OnceLock::new(),
            changes: broadcast::Sender::new(CHANGES),
            batch_changes: broadcast::Sender::new(CHANGES),
            builds: Builds::default(),
            keys: watch::Sender::new(()),
            rates: Rates::default(),
            feeds: Feeds::default(),
            terminal_key,
            creating: InFlight::default(),
            destroying: InFlight::default(),
            changing: InFlight::default(),
            activity: Activity::new(),
            starting: InFlight::default(),
            answering: InFlight::default(),
            routes: Routes::default(),
            shown: ShownCache::default(),
            samples: Samples::default(),
            busy_contexts: BusyContexts::default(),
            wakes: Wakes::default(),
            janitor: Alarm::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let terms = control.settings.billing.terms();
        control.store.set_billing_terms(&terms).await?;
        control.reconcile().await?;
        control.repair_routes().await?;
        let cut_off = "the server ended during the start";
        control.store.fail_begun_apps(cut_off).await?;
        control.resume_batches().await?;
        for build in control.store.interrupt_builds().await? {
            control.build_changed(&build);
        }
        let watcher = Arc::clone(&control);
        control
            .tasks
            .spawn(async move { watcher.watch_host(events).await });
        let janitor = Arc::clone(&control);
        control
            .tasks
            .spawn(async move { janitor.keep_order().await });
        let rates = Arc::clone(&control);
        control
            .tasks
            .spawn(async move { rates.keep_rates_small().await });
        let meter = Arc::clone(&control);
        control
            .tasks
            .spawn(async move { meter.keep_accounts().await });
        let builder = Arc::clone(&control);
        control
            .tasks
            .spawn(async move { builder.keep_building().await });
        Ok(control)
    }

    /// Tells on which port previews are served: known only once it is bound,
    /// which is after the start. The first call counts.
    pub fn listens_on(&self, port: u16) {
        // A second listener serves the same, and addresses must not change.
        let _first_counts = self.port.set(port);
    }

    pub(crate) fn listening_port(&self) -> Option<u16> {
        self.port.get().copied()
    }

    /// Stops the background work and waits for begun operations.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(CLOSE_WAIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("operations still running at shutdown; the next start finishes them");
        }
    }

    /// Ends when the server is closing; long streams end with it.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn compute(&self) -> &dyn Compute {
        &*self.compute
    }

    /// Signs what opens a terminal's socket.
    pub(crate) fn terminal_key(&self) -> &TerminalKey {
        &self.terminal_key
    }

    pub(crate) fn shown(&self) -> &ShownCache {
        &self.shown
    }

    /// Some sandbox may end sooner than was known.
    pub(crate) fn times_changed(&self) {
        self.janitor.now();
    }

    /// What the sandbox's commands write.
    pub(crate) fn feed(&self, record: &SandboxRecord) -> Arc<Feed> {
        if record.state.is_live() {
            self.feeds.of(&record.id)
        } else {
            Arc::default()
        }
    }

    /// Tells which sandboxes changed their state, after it is stored.
    pub(crate) fn changes(&self) -> broadcast::Receiver<SandboxId> {
        self.changes.subscribe()
    }

    /// The guest of a sandbox that accepts work.
    pub(crate) fn guest(&self, record: &SandboxRecord) -> Result<GuestClient, Failure> {
        if !record.is_ready() {
            return Err(Failure::not_running(record));
        }
        Ok(self.compute.guest(&record.vm)?)
    }

    /// The sandbox as soon as `settled` holds, or as it is at `deadline`.
    pub(crate) async fn wait_for(
        &self,
        record: SandboxRecord,
        deadline: Instant,
        settled: impl Fn(&SandboxRecord) -> bool,
    ) -> Result<SandboxRecord, Failure> {
        let mut changes = self.changes.subscribe();
        loop {
            // Read after subscribing: a change in between is seen either way.
            let now = self.store.sandbox(&record.tenant, &record.id).await?;
            let now = now.ok_or_else(Failure::sandbox_not_found)?;
            if settled(&now) {
                return Ok(now);
            }
            let next = next_change(&mut changes, &record.id);
            tokio::select! {
                () = self.closing.cancelled() => return Ok(now),
                waited = timeout_at(deadline, next) => if waited.is_err() {
                    return Ok(now);
                }
            }
        }
    }

    /// Announces a stored change.
    fn announce(&self, transition: &Transition) {
        if !transition.changed() {
            return;
        }
        self.previews_changed();
        let record = &transition.record;
        tracing::info!(
            sandbox = %record.id,
            vm = %record.vm,
            from = %transition.previous,
            to = %record.state,
            reason = record.error_message.as_deref(),
            "sandbox changed state"
        );
        // An error only says that nobody waits.
        let _nobody = self.changes.send(record.id.clone());
        if record.state == SandboxState::Destroyed && record.build.is_some() {
            self.images_changed();
        }
        if !record.state.is_live() {
            self.feeds.forget(&record.id);
            self.activity.forget(&record.id);
        }
        if record.state == SandboxState::Running {
            self.expect_end(record);
        }
    }
}

/// Resolves when the sandbox changed, or may have. Cancel-safe.
pub(crate) async fn next_change(changes: &mut broadcast::Receiver<SandboxId>, id: &SandboxId) {
    loop {
        match changes.recv().await {
            Ok(changed) if changed == *id => return,
            Ok(_other) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // Control owns the sender, and the caller borrows control.
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
