//! When the janitor wakes.
//!
//! Invariant: it wakes no later than the earliest moment it was set to since it
//! last began a round. Whoever sets a later one costs it nothing: a round reads
//! every running sandbox, and thousands may be made in a second.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// See the module. One waits, anybody sets.
#[derive(Default)]
pub(super) struct Alarm {
    /// `None` from the begin of a round until it is set again.
    earliest: Mutex<Option<Instant>>,
    earlier: Notify,
}

impl Alarm {
    /// A round begins: what is set from now on is of the next one.
    pub(super) fn round_begins(&self) {
        *self.lock() = None;
    }

    /// Sets it to a moment, unless it is set to an earlier one.
    pub(super) fn set(&self, moment: Instant) {
        let mut earliest = self.lock();
        if earliest.is_none_or(|earliest| moment < earliest) {
            *earliest = Some(moment);
            self.earlier.notify_one();
        }
    }

    /// Sets it to this moment.
    pub(super) fn now(&self) {
        self.set(Instant::now());
    }

    /// Until the moment it is set to; until it is set, for ever. Cancel-safe.
    pub(super) async fn wait(&self) {
        loop {
            let earliest = *self.lock();
            let earlier = self.earlier.notified();
            match earliest {
                None => earlier.await,
                Some(moment) => {
                    if timeout_at(moment, earlier).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // Nothing in here is half done after a panic.
        self.earliest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
