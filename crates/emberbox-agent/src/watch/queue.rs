//! Changes in their order, with the two halves of a rename put together.
//!
//! The kernel tells a rename as two events that follow each other closely. A
//! path that leaves holds back what comes after it until its other half is
//! there, or is no more expected.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::WatchDescriptor;

/// How long the second half of a rename may take: it is queued by the same
/// system call, and its thread may be interrupted in between.
const HALVES: Duration = Duration::from_millis(100);

/// Most changes held back. Beyond it no second half is waited for.
const HELD: usize = 4096;

/// A change, with paths as the kernel has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) what: What,
    pub(super) path: PathBuf,
    pub(super) is_dir: bool,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Created,
    Modified,
    Deleted,
    Renamed {
        from: PathBuf,
    },
    /// Of the whole directory: something is missing.
    Overflow,
}

/// A path that left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// The same for both halves.
    pub(super) cookie: u32,
    pub(super) path: PathBuf,
    pub(super) is_dir: bool,
    /// If it is a directory: the watches on it and below.
    pub(super) watches: Vec<WatchDescriptor>,
}

#[derive(Debug)]
enum Slot {
    Ready(Change),
    Leaving(Leaving, Instant),
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
}

impl Queue {
    /// Something happened. Writing on to one file is one change.
    pub(super) fn push(&mut self, change: Change) {
        if change.what == What::Modified
            && matches!(self.slots.back(), Some(Slot::Ready(last)) if *last == change)
        {
            return;
        }
        self.slots.push_back(Slot::Ready(change));
    }

    /// The first half of a rename, at this time.
    pub(super) fn leave(&mut self, leaving: Leaving, now: Instant) {
        self.slots.push_back(Slot::Leaving(leaving, now + HALVES));
    }

    /// The second half: what left is told as renamed to `path`.
    pub(super) fn arrive(&mut self, cookie: u32, path: &Path) -> Option<Leaving> {
        let at = self.slots.iter().position(
            |slot| matches!(slot, Slot::Leaving(leaving, _) if leaving.cookie == cookie),
        )?;
        let Some(Slot::Leaving(leaving, _)) = self.slots.remove(at) else {
            return None;
        };
        let renamed = Change {
            what: What::Renamed {
                from: leaving.path.clone(),
            },
            path: path.to_owned(),
            is_dir: leaving.is_dir,
        };
        self.slots.insert(at, Slot::Ready(renamed));
        Some(leaving)
    }

    /// Tells those that left for good as deleted, and returns the watches on
    /// them.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<WatchDescriptor> {
        let all = self.slots.len() > HELD;
        self.give_up_if(|_, until| all || until <= now)
    }

    /// Waits for no second half any more.
    pub(super) fn give_up_all(&mut self) {
        self.give_up_if(|_, _| true);
    }

    /// Waits for no second half of this rename any more.
    pub(super) fn give_up_half(&mut self, cookie: u32) {
        self.give_up_if(|leaving, _| leaving.cookie == cookie);
    }

    fn give_up_if(&mut self, is_over: impl Fn(&Leaving, Instant) -> bool) -> Vec<WatchDescriptor> {
        let mut watches = Vec::new();
        for slot in &mut self.slots {
            if let Slot::Leaving(leaving, until) = slot
                && is_over(leaving, *until)
            {
                watches.append(&mut leaving.watches);
                *slot = Slot::Ready(Change {
                    what: What::Deleted,
                    path: std::mem::take(&mut leaving.path),
                    is_dir: leaving.is_dir,
                });
            }
        }
        watches
    }

    /// Everything that can be told now.
    pub(super) fn take(&mut self) -> Vec<Change> {
        let ready = self
            .slots
            .iter()
            .take_while(|slot| matches!(slot, Slot::Ready(_)))
            .count();
        let taken = self.slots.drain(..ready);
        taken
            .filter_map(|slot| match slot {
                Slot::Ready(change) => Some(change),
                Slot::Leaving(..) => None,
            })
            .collect()
    }

    /// When the next one is given up.
    pub(super) fn due(&self) -> Option<Instant> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Leaving(_, until) => Some(*until),
            Slot::Ready(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
