//! Which background processes are known.

use std::sync::{Arc, Mutex};

use emberbox_guest::process::{ENDED_PROCESSES, LIVE_PROCESSES};
use emberbox_guest::{GuestError, GuestErrorCode};
use tokio::sync::Semaphore;

use super::Process;

/// Followers of all processes at once: one of each that may run, and with the
/// relays they leave room for calls.
const FOLLOWERS: usize = 64;

/// Every process that runs, and the latest that ended.
pub(crate) struct Processes {
    /// In the order of their start.
    all: Mutex<Vec<Arc<Process>>>,
    pub(super) followers: Semaphore,
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            followers: Semaphore::new(FOLLOWERS),
        }
    }
}

impl Processes {
    /// Whether one more may run.
    pub(super) fn admit(&self) -> Result<(), GuestError> {
        let live = self.lock().iter().filter(|one| one.is_live()).count();
        if live < LIVE_PROCESSES {
            return Ok(());
        }
        Err(GuestError::new(
            GuestErrorCode::LimitReached,
            format_args!("{LIVE_PROCESSES} background processes run already"),
        ))
    }

    /// Adds one that was just started.
    pub(super) fn insert(&self, process: Arc<Process>) {
        let mut all = self.lock();
        // The kernel gave the number to a new one: the old one is history.
        all.retain(|old| old.pid != process.pid);
        all.push(process);
        let ended = all.iter().filter(|process| !process.is_live()).count();
        let mut surplus = ended.saturating_sub(ENDED_PROCESSES);
        all.retain(|process| {
            let keep = process.is_live() || surplus == 0;
            surplus -= usize::from(!keep);
            keep
        });
    }

    pub(super) fn find(&self, pid: u32) -> Result<Arc<Process>, GuestError> {
        let all = self.lock();
        let found = all.iter().find(|process| process.pid == pid);
        found.cloned().ok_or_else(|| {
            GuestError::new(
                GuestErrorCode::NoSuchProcess,
                format_args!("no background process {pid}"),
            )
        })
    }

    pub(super) fn all(&self) -> Vec<Arc<Process>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Process>>> {
        self.all.lock().expect("no panic while the table is held")
    }
}
