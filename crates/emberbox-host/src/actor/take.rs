//! How a snapshot is taken.
//!
//! ```text
//! draft ─▶ freeze, pause ─▶ memory, devices │ disk ─▶ go on, thaw ─▶ digests, sync, manifest, name
//!          └──────────────── stands still ────────────┘
//! ```
//!
//! A VM that is to end does not go on; it ends once its snapshot has its name.
//!
//! User processes are frozen first, so that in a restore none of them runs
//! before the new life has its own randomness. A guest that does not answer is
//! snapshotted all the same: what it loses is its own, and no guest may keep
//! itself from being paused.
//!
//! Invariants: whatever fails, the VM goes on and the draft is gone; a VM that
//! is to end stands still until its snapshot is complete, so nothing it does
//! is lost.

use std::error::Error;
use std::fs;
use std::future::pending;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use emberbox_core::{SnapshotId, VmId};
use emberbox_guest::client::{ClientError, GuestClient};
use emberbox_runtime::{EngineError, disk};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::make::unix_time_ns;
use super::{Ask, Parts, Running, report};
use crate::host::{AfterSnapshot, HostError, Snapshotted};
use crate::ledger::Record;
use crate::snapshots::{Draft, Subject};
use crate::timeline::Timeline;

/// How long a guest may take to stand still before it is not waited for: a
/// hundred times what it needs, for a loaded machine.
const FREEZE: Duration = Duration::from_secs(2);

/// How often a guest is told to go on, each time for as long as any answer may
/// take.
const THAWS: u32 = 3;

type Outcome = Result<Snapshotted, HostError>;

/// A snapshot under way, and who waits for it.
pub(super) struct Taking {
    work: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    ask: Ask,
}

impl Taking {
    /// Resolves when the snapshot under way, if there is one, is done.
    /// Cancel-safe; not to be called again once it has resolved.
    pub(super) async fn outcome(taking: &mut Option<Self>) -> Outcome {
        match taking {
            Some(taking) => taking.work.as_mut().await,
            None => pending().await,
        }
    }

    /// Whether the VM is to end now.
    pub(super) fn ends_the_vm(&self, outcome: &Outcome) -> bool {
        outcome.is_ok() && self.ask.after == AfterSnapshot::End
    }

    /// Tells whoever waits.
    pub(super) fn answer(self, outcome: Outcome) {
        // It may be gone; the snapshot is there all the same.
        let _ = self.ask.answer.send(outcome);
    }

    /// Sees it through without its VM.
    pub(super) async fn finish(mut self) {
        let outcome = self.work.as_mut().await;
        self.answer(outcome);
    }
}

impl Parts {
    /// Begins a snapshot of a running VM.
    pub(super) fn take(self: Arc<Self>, id: VmId, running: Running, ask: Ask) -> Taking {
        let (snapshot, after) = (ask.id.clone(), ask.after);
        let work = Box::pin(async move { self.write(&id, &running, &snapshot, after).await });
        Taking { work, ask }
    }

    async fn write(
        &self,
        id: &VmId,
        running: &Running,
        snapshot: &SnapshotId,
        after: AfterSnapshot,
    ) -> Outcome {
        let record = self.ledger.get(id).map_err(not_written)?;
        let subject = subject(record, after)?;
        let draft = self.snapshots.draft(snapshot).map_err(not_written)?;
        let stopped_us = match self.stop_and_copy(id, running, &draft, after).await {
            Ok(stopped) => u64::try_from(stopped.as_micros()).unwrap_or(u64::MAX),
            Err(error) => return Err(not_written(error)),
        };
        let snapshots = Arc::clone(&self.snapshots);
        let completed = spawn_blocking(move || snapshots.complete(&draft, subject)).await;
        match completed.map_err(io::Error::from).flatten() {
            Ok(size_bytes) => Ok(Snapshotted {
                stopped_us,
                size_bytes,
            }),
            Err(error) => {
                match after {
                    AfterSnapshot::GoOn => {}
                    AfterSnapshot::End => go_on(id, running).await,
                }
                Err(not_written(error))
            }
        }
    }

    /// Copies memory, devices and disk while the guest stands still; says how
    /// long it did. It goes on then, unless it is to end.
    async fn stop_and_copy(
        &self,
        id: &VmId,
        running: &Running,
        draft: &Draft,
        after: AfterSnapshot,
    ) -> Result<Duration, EngineError> {
        let vm = &*running.vm;
        vm.ready_checkpoint().await;
        let mut timeline = Timeline::begin();
        let held = freeze(id, &running.guest).await;
        timeline.step("hold");
        let now = Instant::now();
        let began = now.checked_sub(held).unwrap_or(now);
        let copied = async {
            vm.pause().await?;
            timeline.step("stop");
            let (from, to) = (self.ledger.scratch(id), draft.scratch());
            let disk = spawn_blocking(move || copy_disk(&from, &to, after));
            let files = draft.files();
            let (memory, disk) = tokio::join!(vm.checkpoint(&files), disk);
            memory?;
            disk.map_err(io::Error::from)
                .flatten()
                .map_err(|error| EngineError::host("cannot copy the disk", error))
        };
        let copied = copied.await;
        timeline.step("copy");
        if copied.is_err() || after == AfterSnapshot::GoOn {
            go_on(id, running).await;
        }
        timeline.step("go on");
        tracing::debug!(vm = %id, steps = ?timeline.steps(), "stood still");
        copied.map(|()| began.elapsed())
    }
}

/// A VM that ends writes to its disk no more, so another name for it will do.
fn copy_disk(from: &Path, to: &Path, after: AfterSnapshot) -> io::Result<()> {
    let linked = match after {
        AfterSnapshot::GoOn => false,
        AfterSnapshot::End => fs::hard_link(from, to).is_ok(),
    };
    if linked {
        return Ok(());
    }
    disk::clone(from, to).map(drop)
}

/// Holds the guest's processes, unless it does not answer. Says for how long
/// they have stood still.
async fn freeze(id: &VmId, guest: &GuestClient) -> Duration {
    let asked = Instant::now();
    let frozen = timeout(FREEZE, guest.freeze(unix_time_ns())).await;
    let error = match frozen {
        // Its own word, so it is held against what was seen from here.
        Ok(Ok(held)) => return held.min(asked.elapsed()),
        // Of a VM that has ended its task hears.
        Ok(Err(ClientError::Ended)) => return Duration::ZERO,
        Ok(Err(error)) => report(&error),
        Err(_elapsed) => format!("no answer within {FREEZE:?}"),
    };
    tracing::warn!(vm = %id, error, "a snapshot is taken of processes that run");
    Duration::ZERO
}

async fn go_on(id: &VmId, running: &Running) {
    match running.vm.resume().await {
        Ok(()) => thaw(id, &running.guest).await,
        // It has ended meanwhile, which its task hears of.
        Err(EngineError::NotRunning(_)) => {}
        Err(error) => {
            tracing::error!(vm = %id, error = report(&error), "a VM stands still after a snapshot");
        }
    }
}

/// Lets the guest's processes go, if any are held, and sets its clock.
pub(super) async fn thaw(id: &VmId, guest: &GuestClient) {
    for attempt in 1..=THAWS {
        match guest.thaw(unix_time_ns()).await {
            Ok(()) | Err(ClientError::Ended) => return,
            Err(error) => {
                tracing::warn!(vm = %id, attempt, error = report(&error), "a guest is not thawed");
            }
        }
    }
}

fn subject(record: Record, after: AfterSnapshot) -> Result<Subject, HostError> {
    Ok(Subject {
        vm: record.vm,
        // Only a VM that takes a seed is nobody's, and it has no task.
        sandbox: record.sandbox.ok_or(HostError::NotRunning)?,
        shape: record.shape,
        images: record.images,
        after,
    })
}

/// Why nothing was written: no room is the caller's to know, the rest is for
/// the operator.
fn not_written(error: impl Into<Box<dyn Error + Send + Sync>>) -> HostError {
    let error = error.into();
    if let Some(EngineError::NotRunning(_)) = error.downcast_ref() {
        return HostError::NotRunning;
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        let kind = error.downcast_ref().map(io::Error::kind);
        if let Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) = kind {
            return HostError::NoCapacity;
        }
        cause = error.source();
    }
    HostError::Snapshot(error)
}
