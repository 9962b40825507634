//! VMMs that are started before anybody asks for a VM that has to be restored.
//!
//! A pool of [prepared VMs](crate::pool) is of one image and shape each; a VMM
//! that waits fits any of them and takes a few MiB. It stands in a network of
//! its own, which becomes that of the VM.
//!
//! Invariants: nobody waits for one; one is taken once; each is in the ledger
//! under an id of its own, as no sandbox's, so that the next start reaps what a
//! crash leaves; whoever waits for a VM goes before the next one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use emberbox_core::{Shape, VmId};
use emberbox_runtime::net::Slot;
use emberbox_runtime::{BootImages, Capability};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::actor::{Parts, report};
use crate::capacity::Needs;
use crate::host::{Host, HostError};
use crate::ledger::Record;
use crate::pool::PUT_OFF;

/// Rest after a VMM could not be started.
const REST: Duration = Duration::from_secs(5);

/// How often is looked whether there still is a host.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What one takes, in bytes: measured 4 MiB, with the jail it is started by.
const MEMORY: u64 = 16 << 20;

/// A VM's network, and the VMM that waited in it.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) slot: Arc<Slot>,
    /// Where it waited.
    pub(crate) waited: Option<VmId>,
}

impl From<Arc<Slot>> for Network {
    fn from(slot: Arc<Slot>) -> Self {
        Self { slot, waited: None }
    }
}

/// The VMMs of one host that wait.
pub(crate) struct StandBy {
    wanted: usize,
    state: Mutex<State>,
    /// One was taken, or no more are wanted.
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(VmId, Arc<Slot>)>,
    closed: bool,
}

impl StandBy {
    /// Keeps as many ready.
    pub(crate) fn new(wanted: usize) -> Self {
        Self {
            wanted,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.wanted > 0
    }

    /// One for the caller alone, if there is one.
    pub(crate) fn take(&self) -> Option<Network> {
        let taken = self.lock().waiting.pop_front();
        let (vm, slot) = taken?;
        self.changed.notify_one();
        Some(Network {
            slot,
            waited: Some(vm),
        })
    }

    /// One for a VM of this shape. It is started for the default shape
    /// ([`Engine::stand_by`](emberbox_runtime::Engine::stand_by)): one that may
    /// need larger files would be started anew, and wait for its end besides.
    pub(crate) fn take_for(&self, shape: Shape) -> Option<Network> {
        let fits = |of: fn(Shape) -> u32| of(shape) <= of(Shape::DEFAULT);
        let fits = fits(|shape| shape.memory_mib) && fits(|shape| shape.disk_mib);
        if fits { self.take() } else { None }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    /// How many shall.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// No more are started.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// One more waits, unless none shall any more.
    fn put(&self, vm: VmId, slot: &Arc<Slot>) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.waiting.push_back((vm, Arc::clone(slot)));
        }
        !state.closed
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is half done after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps as many as shall wait, one at a time, until the host is closed or gone.
pub(crate) async fn refill(host: Weak<Host>, standby: Arc<StandBy>, images: BootImages) {
    while !standby.is_closed() {
        if standby.count() >= standby.wanted() {
            tokio::select! {
                () = standby.changed.notified() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
            continue;
        }
        let Some(host) = host.upgrade() else { return };
        // At the end of the wait the others have had their time.
        let _ = timeout(PUT_OFF, host.calm()).await;
        match host.stand_by(&images).await {
            Ok(()) | Err(HostError::ShuttingDown) => {}
            Err(error) => {
                match error {
                    HostError::NoCapacity => tracing::debug!("no room for VMMs that wait"),
                    error => {
                        let error = report(&error);
                        tracing::warn!(error, "no VMM could be started to wait");
                    }
                }
                tokio::select! {
                    () = standby.changed.notified() => {}
                    () = sleep(REST) => {}
                }
            }
        }
    }
}

impl Host {
    /// Starts one VMM that waits. If none shall any more, it is removed again.
    async fn stand_by(&self, images: &BootImages) -> Result<(), HostError> {
        let needs = Needs {
            memory: MEMORY,
            disk: 0,
        };
        self.has_room_for(needs)?;
        let parts = &self.parts;
        let slot = parts.slots.take().await.map_err(HostError::start)?;
        let vm = VmId::generate();
        let started = parts.stand_by(&vm, &slot, images).await;
        if started.is_ok() && parts.standby.put(vm.clone(), &slot) {
            return Ok(());
        }
        parts.remove_waiting(&vm, &slot).await?;
        started.and(Err(HostError::ShuttingDown))
    }
}

impl Parts {
    /// Whether VMMs can wait at all.
    pub(crate) fn can_stand_by(&self) -> bool {
        self.standby.is_on() && self.engine.capabilities().has(Capability::StandBy)
    }

    async fn stand_by(
        &self,
        vm: &VmId,
        slot: &Arc<Slot>,
        images: &BootImages,
    ) -> Result<(), HostError> {
        let record = Record {
            vm: vm.clone(),
            sandbox: None,
            shape: Shape::DEFAULT,
            images: images.clone(),
            slot: slot.index(),
            claimed: false,
        };
        self.ledger.put(&record).map_err(HostError::start)?;
        let place = self.ledger.place(vm);
        let waits = self.engine.stand_by(&place, slot).await;
        waits.map_err(HostError::start)
    }

    /// Ends all that wait; none may be started any more.
    pub(crate) async fn end_waiting(&self) {
        while let Some(Network { slot, waited }) = self.standby.take() {
            let Some(vm) = waited else { continue };
            if let Err(error) = self.remove_waiting(&vm, &slot).await {
                let error = report(&error);
                tracing::error!(%vm, error, "a VMM that waits is left for the next start");
            }
        }
    }

    async fn remove_waiting(&self, vm: &VmId, slot: &Arc<Slot>) -> Result<(), HostError> {
        let reaped = self.engine.reap(&self.ledger.place(vm)).await;
        reaped.map_err(HostError::start)?;
        self.slots.discard(slot).await.map_err(HostError::start)?;
        self.ledger.remove(vm).map_err(HostError::start)
    }
}
