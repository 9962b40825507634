//! Having charge of a VMM that runs: from then to its end, whoever ends it.
//!
//! What engines differ in, how the end is noticed and what its reason is, stays
//! theirs; what follows is here once: the cgroup goes, then everybody who waits
//! is told.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::remove_cgroup;
use crate::cgroup::CgroupTree;
use crate::engine::{EngineError, ExitReason, MemoryUse, VmPlace};
use crate::process::{self, Process};

/// A VMM that runs or has ended.
pub(crate) struct Charge {
    pub(crate) place: VmPlace,
    pub(crate) process: Process,
    cgroups: CgroupTree,
    /// Somebody here asked for the end.
    stopping: AtomicBool,
    ended: watch::Sender<Option<ExitReason>>,
}

impl Charge {
    pub(crate) fn new(place: &VmPlace, process: Process, cgroups: CgroupTree) -> Self {
        Self {
            place: place.clone(),
            process,
            cgroups,
            stopping: AtomicBool::new(false),
            ended: watch::Sender::new(None),
        }
    }

    /// Ends a VMM whose guest is down, and waits for it.
    pub(crate) async fn end_empty(&self) {
        if let Err(error) = self.process.kill() {
            tracing::error!(vm = %self.place.id, %error, "cannot end a VMM whose guest is down");
        }
        self.process.wait().await;
    }

    /// To be called once, when the process has ended: cleans up after it and
    /// tells why it ended, unless somebody here wanted that.
    pub(crate) async fn has_ended(&self, reason: ExitReason) {
        if let Err(error) = remove_cgroup(&self.cgroups, &self.place.id).await {
            tracing::error!(vm = %self.place.id, %error, "a cgroup is left over");
        }
        let reason = if self.stopping.load(Ordering::SeqCst) {
            ExitReason::Stopped
        } else {
            reason
        };
        self.ended.send_replace(Some(reason));
    }

    /// Fails for one that has ended.
    pub(crate) fn check_running(&self) -> Result<(), EngineError> {
        if self.ended.borrow().is_some() {
            return Err(EngineError::NotRunning(self.place.id.clone()));
        }
        Ok(())
    }

    /// Ends it at once and waits until its cgroup is gone. Idempotent.
    pub(crate) async fn stop(&self) -> Result<(), EngineError> {
        self.stopping.store(true, Ordering::SeqCst);
        self.process
            .kill()
            .map_err(|e| EngineError::host("cannot end the VMM", e))?;
        self.wait().await;
        Ok(())
    }

    /// Resolves when [`Charge::has_ended`] was called. Cancel-safe.
    pub(crate) async fn wait(&self) -> ExitReason {
        let mut ended = self.ended.subscribe();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone());
        reason
            .ok()
            .flatten()
            .expect("the sender lives in self and only sends a reason")
    }

    /// What it costs in memory right now.
    pub(crate) fn memory_use(&self) -> Result<MemoryUse, EngineError> {
        self.check_running()?;
        process::memory_use(self.process.pid())
            .map_err(|e| EngineError::host("cannot read the VMM's memory use", e))
    }
}

/// What an end without an explanation is told with.
pub(crate) fn unexplained(how: Option<String>) -> String {
    how.unwrap_or_else(|| "it was not our child".to_owned())
}
