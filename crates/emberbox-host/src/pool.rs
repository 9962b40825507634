//! VMs that are restored before anybody asks for one.
//!
//! Decides: how many of which kind, who gets one. Must not know: how a VM is
//! made (`actor::prepare`).
//!
//! ```text
//!          demand                 lease             create
//! refill ─────────▶ idle ───────────────▶ leased ───────────▶ a sandbox's
//!                    ▲  └──surplus──▶ removed └── given back ─┐
//!                    └────────────────────────────────────────┘
//! ```
//!
//! The first of each kind run while they wait and have their identity, so that
//! a claim does not have to wait for a machine that comes to itself; the others
//! stand still, and so do all that have an app in them: it would be some
//! tenant's code that runs for nobody.
//!
//! Invariants: a VM is leased to one at a time and claimed once; an empty pool
//! makes nobody wait; whoever waits for a VM that has to be restored goes
//! before those that are prepared; nothing of the pool outlives a clean end,
//! and what a crash leaves is recorded as unclaimed, so the next start reaps it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use emberbox_core::VmId;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::actor::Handle;
use crate::config::PoolConfig;

mod demand;
mod lease;
pub(crate) mod refill;

pub(crate) use demand::Kind;
use demand::{Bounds, Demand, Next};
pub use lease::Lease;

/// How long nobody may have asked for a VM before the next is prepared: those
/// who just got one use the processor now.
const CALM: Duration = Duration::from_millis(150);

/// Longest that preparing is put off for the sake of others.
pub(crate) const PUT_OFF: Duration = Duration::from_secs(1);

/// Memory that one prepared VM is counted with, in bytes: measured 50 to 60
/// MiB, and it will touch more once it is somebody's.
const MEMORY: u64 = 128 << 20;

/// Without a word about memory, this part of the machine's may be prepared.
const SHARE_OF_MEMORY: u64 = 8;

/// What the pool has done, and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PoolFacts {
    /// VMs that are ready to be claimed, by image and shape.
    pub ready: Vec<(String, String, usize)>,
    /// Creates that got one.
    pub hits: u64,
    /// Creates that found none.
    pub misses: u64,
    /// VMs that were prepared.
    pub prepared: u64,
    /// How long preparing them took in all.
    pub prepare_time: Duration,
    /// Attempts that failed.
    pub failed: u64,
    /// VMMs that wait for something to restore.
    pub vmms_waiting: usize,
    /// As many shall.
    pub vmms_wanted: usize,
}

/// The prepared VMs of one host.
pub(crate) struct Pool {
    bounds: Bounds,
    state: Mutex<State>,
    /// Something changed that the refill should look at.
    changed: Notify,
}

#[derive(Default)]
struct State {
    demand: Demand,
    idle: BTreeMap<Kind, VecDeque<Ready>>,
    leased: HashMap<VmId, (Kind, Ready)>,
    last_asked: Option<Instant>,
    facts: PoolFacts,
    closed: bool,
}

/// A VM that can be claimed.
pub(crate) struct Ready {
    pub(crate) vm: VmId,
    /// Of the images it was made from.
    pub(crate) digest: String,
    pub(crate) handle: Handle,
    /// Whether it shall run once it is among the first, and does not yet.
    pub(crate) sleeps: bool,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Self {
        Self {
            bounds: bounds(config, total_memory()),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Whether anything is ever prepared.
    pub(crate) fn is_on(&self) -> bool {
        self.bounds.max > 0
    }

    /// One more of this kind will be wanted.
    pub(crate) fn expect(&self, kind: &Kind) {
        let now = Instant::now();
        self.lock().demand.asked(kind, self.bounds, now);
        self.changed.notify_one();
    }

    /// One of this kind, made from these images, for the caller alone. Those
    /// made from other images are of no use any more and are returned beside.
    pub(crate) fn lease(&self, kind: &Kind, digest: &str) -> (Option<VmId>, Vec<Ready>) {
        let mut stale = Vec::new();
        let mut state = self.lock();
        if state.closed || !self.is_on() {
            return (None, stale);
        }
        let now = Instant::now();
        state.last_asked = Some(now);
        state.demand.asked(kind, self.bounds, now);
        let found = loop {
            match state.idle.get_mut(kind).and_then(VecDeque::pop_front) {
                Some(ready) if ready.digest != digest => stale.push(ready),
                Some(ready) if ready.handle.is_gone() => {}
                found => break found,
            }
        };
        let vm = found.as_ref().map(|ready| ready.vm.clone());
        match found {
            Some(ready) => {
                state.facts.hits += 1;
                state.leased.insert(ready.vm.clone(), (kind.clone(), ready));
            }
            None => state.facts.misses += 1,
        }
        drop(state);
        self.changed.notify_one();
        (vm, stale)
    }

    /// Nobody wants a leased VM after all.
    pub(crate) fn give_back(&self, vm: &VmId) {
        let mut state = self.lock();
        if let Some((kind, ready)) = state.leased.remove(vm) {
            state.idle.entry(kind).or_default().push_front(ready);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A leased VM, to be claimed: it is the pool's no more.
    pub(crate) fn claim(&self, vm: &VmId, kind: &Kind) -> Option<Handle> {
        let mut state = self.lock();
        match state.leased.remove(vm) {
            Some((leased, ready)) if leased == *kind => Some(ready.handle),
            Some(other) => {
                state.leased.insert(vm.clone(), other);
                None
            }
            None => None,
        }
    }

    /// A VM has ended.
    pub(crate) fn forget(&self, vm: &VmId) {
        let mut state = self.lock();
        state.leased.remove(vm);
        for ready in state.idle.values_mut() {
            ready.retain(|ready| ready.vm != *vm);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Memory that [`Pool::shed`] would free, in bytes.
    pub(crate) fn can_shed(&self) -> u64 {
        let idle: usize = self.lock().idle.values().map(VecDeque::len).sum();
        u64::try_from(idle).map_or(0, |idle| idle.saturating_mul(MEMORY))
    }

    /// Removes all that nobody has been promised, for what is more important.
    /// Says whether there was anything.
    pub(crate) async fn shed(&self) -> bool {
        let idle: Vec<_> = {
            let mut state = self.lock();
            let idle = state.idle.values_mut();
            idle.flat_map(mem::take).collect()
        };
        join_all(idle.iter().map(|ready| ready.handle.destroy())).await;
        !idle.is_empty()
    }

    /// Removes everything; nothing is prepared or leased any more.
    pub(crate) async fn close(&self) {
        let leased = {
            let mut state = self.lock();
            state.closed = true;
            mem::take(&mut state.leased)
        };
        self.changed.notify_one();
        self.shed().await;
        // The rows that name them get a new life at the next start.
        join_all(leased.values().map(|(_, ready)| ready.handle.destroy())).await;
    }

    pub(crate) fn facts(&self) -> PoolFacts {
        let state = self.lock();
        let ready = state.idle.iter().map(|(kind, ready)| {
            let Kind { image, shape } = kind;
            (image.clone(), shape.to_string(), ready.len())
        });
        PoolFacts {
            ready: ready.collect(),
            ..state.facts.clone()
        }
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn next(&self) -> Next {
        let state = self.lock();
        let have = state.idle.iter();
        let have = have.map(|(kind, ready)| (kind.clone(), ready.len()));
        state
            .demand
            .next(&have.collect(), self.bounds, Instant::now())
    }

    /// One that is more than wanted.
    fn surplus(&self, kind: &Kind) -> Option<Ready> {
        self.lock().idle.get_mut(kind)?.pop_back()
    }

    /// It was prepared; `false` if the pool takes no more.
    fn put(&self, kind: &Kind, ready: Ready, took: Duration) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.facts.prepared += 1;
        state.facts.prepare_time += took;
        if !ready.handle.is_gone() {
            state.idle.entry(kind.clone()).or_default().push_back(ready);
        }
        true
    }

    /// Those of the first of each kind that stand still; they count as running
    /// from now on.
    fn sleepers(&self) -> Vec<Handle> {
        let first = self.bounds.keep.max(1);
        let mut state = self.lock();
        let waiting = state.idle.values_mut();
        let sleepers = waiting
            .flat_map(|ready| ready.iter_mut().take(first))
            .filter(|ready| ready.sleeps);
        let mut handles = Vec::new();
        for ready in sleepers {
            ready.sleeps = false;
            handles.push(ready.handle.clone());
        }
        handles
    }

    fn failed(&self, kind: &Kind, rest: Duration) {
        let mut state = self.lock();
        state.facts.failed += 1;
        state.demand.rest(kind, Instant::now() + rest);
    }

    /// When the next may be prepared for all that those who just asked care.
    fn calm_at(&self) -> Option<Instant> {
        self.lock().last_asked.map(|asked| asked + CALM)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the state is held")
    }
}

fn bounds(config: PoolConfig, total_memory: u64) -> Bounds {
    let budget = match config.max_memory_mib {
        Some(mib) => u64::from(mib) << 20,
        None => total_memory / SHARE_OF_MEMORY,
    };
    let fitting = usize::try_from(budget / MEMORY).unwrap_or(usize::MAX);
    let max = config.max_prepared.min(fitting);
    Bounds {
        keep: config.keep.min(max),
        max,
        idle: config.idle,
    }
}

/// In bytes; nothing is prepared where it is not known.
fn total_memory() -> u64 {
    use procfs::Current;
    procfs::Meminfo::current().map_or(0, |memory| memory.mem_total)
}

#[cfg(test)]
mod tests;
