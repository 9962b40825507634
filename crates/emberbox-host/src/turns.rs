//! How many VMs come up at a time.
//!
//! More restores at once than there are processors make none of them faster
//! and all of them later. Who has to wait is served in order.

use std::future::pending;
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// Restores per processor: a VM that comes up waits for its disk and its VMM
/// for a part of the time.
const PER_PROCESSOR: usize = 2;

/// Who may bring up a VM.
pub(crate) struct Turns {
    room: Semaphore,
    /// VMs that somebody waits for and that are not up yet.
    waited_for: watch::Sender<usize>,
}

/// Held while a VM comes up.
pub(crate) struct Admitted<'a> {
    _room: SemaphorePermit<'a>,
}

/// Held from when a VM is asked for until it is up.
pub(crate) struct WaitedFor<'a>(&'a Turns);

impl Turns {
    pub(crate) fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            room: Semaphore::new(processors * PER_PROCESSOR),
            waited_for: watch::Sender::new(0),
        }
    }

    /// Somebody waits for a VM; nothing is prepared ahead meanwhile.
    pub(crate) fn wait_for_one(&self) -> WaitedFor<'_> {
        self.waited_for.send_modify(|count| *count += 1);
        WaitedFor(self)
    }

    /// Waits for one's turn. Cancel-safe, but the place in the line is lost.
    pub(crate) async fn enter(&self) -> Admitted<'_> {
        match self.room.acquire().await {
            Ok(room) => Admitted { _room: room },
            // Nobody closes it.
            Err(_closed) => pending().await,
        }
    }

    /// Resolves when nobody waits for a VM. Cancel-safe.
    pub(crate) async fn quiet(&self) {
        let mut waited_for = self.waited_for.subscribe();
        // The sender lives as long as this.
        let _ = waited_for.wait_for(|count| *count == 0).await;
    }
}

impl Drop for WaitedFor<'_> {
    fn drop(&mut self) {
        self.0.waited_for.send_modify(|count| *count -= 1);
    }
}
