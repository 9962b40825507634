//! How many VMs come up at a time, and whose is the next.
//!
//! More restores at once than there are processors make none of them faster
//! and all of them later. Parties who have to wait are served in turn, one VM
//! each, and each of them in order: so whoever asks for one is not behind
//! somebody else's hundred.

use std::collections::{HashMap, VecDeque};
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
    /// Who waits, the next one first; everybody once.
    parties: VecDeque<String>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<Admitted>>>,
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
            waiting: HashMap::new(),
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
    fn join(&mut self, party: &str) -> oneshot::Receiver<Admitted> {
        let (admit, waiting) = oneshot::channel();
        match self.waiting.get_mut(party) {
            Some(own) => own.push_back(admit),
            None => {
                self.waiting
                    .insert(party.to_owned(), VecDeque::from([admit]));
                self.parties.push_back(party.to_owned());
            }
        }
        waiting
    }

    /// Takes the next one who still waits out of the line.
    fn next(&mut self) -> Option<oneshot::Sender<Admitted>> {
        while let Some(party) = self.parties.pop_front() {
            let Some(mut own) = self.waiting.remove(&party) else {
                continue;
            };
            let mut next = own.pop_front();
            while next.as_ref().is_some_and(oneshot::Sender::is_closed) {
                next = own.pop_front();
            }
            if !own.is_empty() {
                self.waiting.insert(party.clone(), own);
                self.parties.push_back(party);
            }
            if next.is_some() {
                return next;
            }
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
