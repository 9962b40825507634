//! How many VMs come up at a time, and whose is the next.
//!
//! More restores at once than there are processors make none of them faster
//! and all of them later. Parties who have to wait are served in turn, one VM
//! each, and each of them in order: so whoever asks for one is not behind
//! somebody else's hundred.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{oneshot, watch};

/// Restores per processor: a VM that comes up waits for its disk and its VMM
/// for a part of the time.
const PER_PROCESSOR: usize = 2;

/// Who may bring up a VM.
pub(crate) struct Turns {
    line: Arc<Mutex<Line>>,
    /// VMs that somebody waits for and that are not up yet.
    waited_for: watch::Sender<usize>,
}

/// Invariant: nobody waits while there is room.
struct Line {
    room: usize,
    /// The next one first; each once.
    parties: VecDeque<Party>,
}

/// Who waits for at least one VM.
struct Party {
    name: String,
    waiting: VecDeque<oneshot::Sender<Admitted>>,
}

/// Held while a VM comes up.
pub(crate) struct Admitted(Arc<Mutex<Line>>);

/// Held from when a VM is asked for until it is up.
pub(crate) struct WaitedFor<'a>(&'a Turns);

impl Turns {
    pub(crate) fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self::with_room(processors * PER_PROCESSOR)
    }

    fn with_room(room: usize) -> Self {
        let line = Line {
            room,
            parties: VecDeque::new(),
        };
        Self {
            line: Arc::new(Mutex::new(line)),
            waited_for: watch::Sender::new(0),
        }
    }

    /// Somebody waits for a VM; nothing is prepared ahead meanwhile.
    pub(crate) fn wait_for_one(&self) -> WaitedFor<'_> {
        self.waited_for.send_modify(|count| *count += 1);
        WaitedFor(self)
    }

    /// Waits for a turn of this party. Cancel-safe, but the place in the line
    /// is lost.
    pub(crate) async fn enter(&self, party: &str) -> Admitted {
        let waiting = {
            let mut line = lock(&self.line);
            if line.room > 0 {
                line.room -= 1;
                return Admitted(Arc::clone(&self.line));
            }
            line.join(party)
        };
        match waiting.await {
            Ok(admitted) => admitted,
            // Who is in the line is asked before it is dropped.
            Err(_gone) => pending().await,
        }
    }

    /// Resolves when nobody waits for a VM. Cancel-safe.
    pub(crate) async fn quiet(&self) {
        let mut waited_for = self.waited_for.subscribe();
        // The sender lives as long as this.
        let _ = waited_for.wait_for(|count| *count == 0).await;
    }
}

impl Line {
    fn join(&mut self, name: &str) -> oneshot::Receiver<Admitted> {
        let (admit, waiting) = oneshot::channel();
        match self.parties.iter_mut().find(|party| party.name == name) {
            Some(party) => party.waiting.push_back(admit),
            None => self.parties.push_back(Party {
                name: name.to_owned(),
                waiting: VecDeque::from([admit]),
            }),
        }
        waiting
    }

    /// Takes the next one who still waits out of the line.
    fn next(&mut self) -> Option<oneshot::Sender<Admitted>> {
        while let Some(mut party) = self.parties.pop_front() {
            party.waiting.retain(|admit| !admit.is_closed());
            let Some(next) = party.waiting.pop_front() else {
                continue;
            };
            if !party.waiting.is_empty() {
                self.parties.push_back(party);
            }
            return Some(next);
        }
        None
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let next = {
            let mut line = lock(&self.0);
            let next = line.next();
            if next.is_none() {
                line.room += 1;
            }
            next
        };
        if let Some(next) = next {
            // Who has just gone gives it to the next one.
            drop(next.send(Self(Arc::clone(&self.0))));
        }
    }
}

impl Drop for WaitedFor<'_> {
    fn drop(&mut self) {
        self.0.waited_for.send_modify(|count| *count -= 1);
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    // Nothing in here is half done after a panic.
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
