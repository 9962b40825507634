//! The life of one VM: one task that makes it, watches it and removes it.
//!
//! ```text
//! making ────claimed────▶ running ──ended──▶ removed   (reported)
//!    ├──failed──▶ removed  ▲   ├──destroy──▶ removed
//!    └─prepared─▶ waiting ─┘   ├──snapshot──▶ running
//!                    │         └──last snapshot──▶ removed
//!                    └──ended, destroy, failed claim──▶ removed
//! ```
//!
//! What follows which event is decided by [`emberbox_core::step`]; this task
//! only carries it out. Invariant: however the life goes, its last act is
//! [`Parts::remove`], and if that fails the record stays for the next start.

use std::sync::{Arc, OnceLock};

use emberbox_core::lifecycle::{Command, Event, Fact};
use emberbox_core::{SandboxState, Shape, SnapshotId, Step, VmId, step};
use emberbox_guest::client::GuestClient;
use emberbox_image::Artifacts;
use emberbox_runtime::net::{Slot, SlotPool};
use emberbox_runtime::{Engine, ExitReason, Vm};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::host::{AfterSnapshot, CreateVm, Created, HostError, HostEvent, Snapshotted};
use crate::last_use::LastNetworkUse;
use crate::ledger::Ledger;
use crate::secret::HostSecret;
use crate::seeds::Seeds;
use crate::snapshots::Snapshots;
use crate::standby::{Network, StandBy};
use crate::turns::Turns;

mod make;
mod prepare;
mod take;

pub(crate) use make::unix_time_ns;
pub(crate) use prepare::Order;
use prepare::Prepared;
use take::Taking;

/// Requests waiting for one VM; more callers wait in line.
const MAILBOX: usize = 8;

/// Everything VMs are made with.
pub(crate) struct Parts {
    pub(crate) turns: Turns,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) slots: Arc<SlotPool>,
    pub(crate) seeds: Seeds,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) ledger: Ledger,
    pub(crate) secret: HostSecret,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) standby: Arc<StandBy>,
    /// Of VMs that have ended.
    pub(crate) last_network_use: LastNetworkUse,
}

/// A VM that is claimed and runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) vm: Arc<dyn Vm>,
    pub(crate) guest: GuestClient,
    pub(crate) slot: Arc<Slot>,
}

/// A VM that was found running.
pub(crate) struct Adopted {
    pub(crate) running: Running,
}

/// How others speak to a VM's task.
#[derive(Clone)]
pub(crate) struct Handle {
    shape: Shape,
    mailbox: mpsc::Sender<Request>,
    running: watch::Receiver<Option<Running>>,
    /// One snapshot at a time; others wait in line.
    turn: Arc<Semaphore>,
}

/// What others may ask of a VM's task.
enum Request {
    Claim(Box<Claim>),
    /// Lets a prepared VM run while it waits.
    Wake,
    Destroy(Destroy),
    Snapshot(Ask),
}

/// Gives a prepared VM to a sandbox.
struct Claim {
    request: CreateVm,
    answer: oneshot::Sender<Result<Created, HostError>>,
}

/// Asks for the end; answered when all is gone.
struct Destroy(oneshot::Sender<()>);

/// Asks for a snapshot.
struct Ask {
    id: SnapshotId,
    after: AfterSnapshot,
    answer: oneshot::Sender<Result<Snapshotted, HostError>>,
    /// Given back when it is answered.
    _turn: OwnedSemaphorePermit,
}

impl Handle {
    /// What the VM may take at most, from when it is begun.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The VM, once it is claimed.
    pub(crate) fn running(&self) -> Option<Running> {
        self.running.borrow().clone()
    }

    /// Ends the VM and waits until all of it is gone.
    pub(crate) async fn destroy(&self) {
        let (done, gone) = oneshot::channel();
        // A task that is gone has removed everything already, and one that
        // ends for another reason drops the answer when it has.
        if self
            .mailbox
            .send(Request::Destroy(Destroy(done)))
            .await
            .is_ok()
        {
            let _ = gone.await;
        }
        self.gone().await;
    }

    /// Makes a prepared VM the sandbox's. If that fails, nothing of it is left.
    pub(crate) async fn claim(&self, request: CreateVm) -> Result<Created, HostError> {
        let (answer, claimed) = oneshot::channel();
        let claim = Box::new(Claim { request, answer });
        // Not sent or not answered, its task was at its end already.
        let _ = self.mailbox.send(Request::Claim(claim)).await;
        match claimed.await {
            Ok(claimed) => claimed,
            Err(_ended) => {
                self.gone().await;
                Err(HostError::PreparedLost)
            }
        }
    }

    /// Lets a prepared VM run, with an identity, while it waits to be claimed.
    pub(crate) async fn wake(&self) {
        // A task that is at its end has nothing to wake.
        let _ = self.mailbox.send(Request::Wake).await;
    }

    /// Whether the VM ends or has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Resolves when nothing of the VM is left.
    async fn gone(&self) {
        let mut running = self.running.clone();
        while running.changed().await.is_ok() {}
    }

    /// Takes a snapshot. One that has begun runs to its end whoever waits.
    pub(crate) async fn snapshot(
        &self,
        id: SnapshotId,
        after: AfterSnapshot,
    ) -> Result<Snapshotted, HostError> {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.map_err(|_closed| HostError::NotRunning)?;
        let (answer, taken) = oneshot::channel();
        let ask = Ask {
            id,
            after,
            answer,
            _turn: turn,
        };
        // A task that does not answer has ended with its VM.
        let sent = self.mailbox.send(Request::Snapshot(ask)).await;
        sent.map_err(|_gone| HostError::NotRunning)?;
        taken.await.map_err(|_gone| HostError::NotRunning)?
    }
}

/// The task of one VM.
pub(crate) struct Actor {
    parts: Arc<Parts>,
    id: VmId,
    state: SandboxState,
    /// Its network, from the moment it is taken.
    network: Arc<OnceLock<Network>>,
    mailbox: mpsc::Receiver<Request>,
    /// Who asked for the end.
    destroyers: Vec<Destroy>,
    publish: watch::Sender<Option<Running>>,
}

impl Actor {
    /// A task for this VM, and the way to speak to it.
    pub(crate) fn new(parts: Arc<Parts>, id: VmId, shape: Shape) -> (Self, Handle) {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let (publish, running) = watch::channel(None);
        let state = SandboxState::Provisioning;
        let network = Arc::default();
        let actor = Self {
            parts,
            id,
            state,
            network,
            mailbox,
            destroyers: Vec::new(),
            publish,
        };
        (
            actor,
            Handle {
                shape,
                mailbox: sender,
                running,
                turn: Arc::new(Semaphore::new(1)),
            },
        )
    }

    /// Makes the VM, answers, and stays with it to its end.
    pub(crate) async fn create(
        mut self,
        request: CreateVm,
        answer: oneshot::Sender<Result<Created, HostError>>,
        events: mpsc::Sender<HostEvent>,
    ) {
        let (parts, network) = (Arc::clone(&self.parts), Arc::clone(&self.network));
        let made = tokio::select! {
            made = parts.make(request, &network) => made,
            () = self.destroy_admitted() => Err(HostError::NotRunning),
        };
        self.settle(made, answer, events).await;
    }

    /// Prepares a VM for nobody, answers, and waits until somebody claims it or
    /// asks for its end.
    pub(crate) async fn prepare(
        mut self,
        order: Order,
        answer: oneshot::Sender<Result<(), HostError>>,
        events: mpsc::Sender<HostEvent>,
    ) {
        let (parts, network, id) = (
            Arc::clone(&self.parts),
            Arc::clone(&self.network),
            self.id.clone(),
        );
        let prepared = tokio::select! {
            prepared = parts.prepare(&id, order, &network) => prepared,
            () = self.destroy_admitted() => Err(HostError::NotRunning),
        };
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.record(Fact::Failed);
                self.finish(None).await;
                let _ = answer.send(Err(error));
                return;
            }
        };
        // Nobody may listen any more; the ledger has it all the same.
        let _ = answer.send(Ok(()));
        let Some(Claim { request, answer }) = self.claimed(&mut prepared).await else {
            self.record(Fact::Failed);
            return self.finish(None).await;
        };
        let made = tokio::select! {
            made = parts.claim_prepared(prepared, &request) => made.map_err(|error| {
                tracing::warn!(vm = %id, error = report(&error), "a prepared VM cannot be claimed");
                HostError::PreparedLost
            }),
            () = self.destroy_admitted() => Err(HostError::NotRunning),
        };
        self.settle(made, answer, events).await;
    }

    /// The claim of a prepared VM; `None` if it has to go.
    async fn claimed(&mut self, prepared: &mut Prepared) -> Option<Claim> {
        let parts = Arc::clone(&self.parts);
        loop {
            tokio::select! {
                reason = prepared.vm.wait() => {
                    tracing::warn!(vm = %self.id, ?reason, "a prepared VM ended");
                    return None;
                }
                // Closed, it asks nothing any more.
                Some(request) = self.mailbox.recv() => match request {
                    Request::Claim(claim) => return Some(*claim),
                    Request::Wake => {
                        if let Err(error) = parts.wake(prepared).await {
                            tracing::warn!(vm = %self.id, error = report(&error), "a prepared VM cannot be woken");
                            return None;
                        }
                    }
                    Request::Destroy(destroy) => {
                        if self.admits(destroy) {
                            return None;
                        }
                    }
                    Request::Snapshot(ask) => ask.refuse(HostError::NotRunning),
                },
            }
        }
    }

    /// Answers what came of a making, and stays with the VM if there is one.
    async fn settle(
        mut self,
        made: Result<(Created, Running), HostError>,
        answer: oneshot::Sender<Result<Created, HostError>>,
        events: mpsc::Sender<HostEvent>,
    ) {
        match made {
            Ok((created, running)) => {
                self.record(Fact::Ready);
                self.publish.send_replace(Some(running.clone()));
                // The caller may be gone; the VM is in the ledger all the same.
                let _ = answer.send(Ok(created));
                self.leave_waiting_place();
                self.stay(running, events).await;
            }
            Err(error) => {
                self.record(Fact::Failed);
                self.finish(None).await;
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Stays with a VM that an earlier process of this server made. The VM
    /// counts as running when this returns, before its future is polled.
    pub(crate) fn adopt(
        mut self,
        adopted: Adopted,
        events: mpsc::Sender<HostEvent>,
    ) -> impl Future<Output = ()> + Send {
        let slot = &adopted.running.slot;
        self.network.get_or_init(|| Arc::clone(slot).into());
        self.record(Fact::Ready);
        self.publish.send_replace(Some(adopted.running.clone()));
        self.stay(adopted.running, events)
    }

    /// Where the VMM waited nothing is left but the record.
    fn leave_waiting_place(&self) {
        let waited = self.network.get().and_then(|it| it.waited.as_ref());
        if let Some(place) = waited
            && let Err(error) = self.parts.ledger.remove(place)
        {
            let vm = &self.id;
            tracing::warn!(%vm, %error, "the place where a VMM waited is left");
        }
    }

    async fn stay(mut self, running: Running, events: mpsc::Sender<HostEvent>) {
        let mut taking: Option<Taking> = None;
        let end = loop {
            tokio::select! {
                reason = running.vm.wait() => break End::Itself(reason),
                outcome = Taking::outcome(&mut taking) => {
                    let Some(taken) = taking.take() else { continue };
                    if taken.ends_the_vm(&outcome) {
                        break End::Written(taken, outcome);
                    }
                    taken.answer(outcome);
                }
                // Closed, it asks nothing any more: the VM outlives this server.
                Some(request) = self.mailbox.recv() => match request {
                    Request::Claim(claim) => claim.refuse(),
                    Request::Wake => {}
                    Request::Destroy(destroy) => {
                        if self.admits(destroy) {
                            break End::Destroyed;
                        }
                    }
                    Request::Snapshot(ask) => {
                        let parts = Arc::clone(&self.parts);
                        taking = Some(parts.take(self.id.clone(), running.clone(), ask));
                    }
                },
            }
        };
        self.publish.send_replace(None);
        running.guest.end();
        drop(running);
        match end {
            End::Itself(reason) => {
                self.record(Fact::Failed);
                let vm = self.id.clone();
                self.finish(taking).await;
                // A receiver that is gone means the server is closing.
                let _ = events.send(HostEvent::Ended { vm, reason }).await;
            }
            End::Destroyed => self.finish(taking).await,
            End::Written(taken, outcome) => {
                self.finish(None).await;
                taken.answer(outcome);
            }
        }
    }

    /// Resolves when somebody asked for the end of a VM that is being made.
    async fn destroy_admitted(&mut self) {
        while let Some(request) = self.mailbox.recv().await {
            match request {
                Request::Claim(claim) => claim.refuse(),
                Request::Wake => {}
                Request::Destroy(destroy) => {
                    if self.admits(destroy) {
                        return;
                    }
                }
                Request::Snapshot(ask) => ask.refuse(HostError::NotRunning),
            }
        }
        // Nobody can ask any more: the VM outlives this server.
        std::future::pending().await
    }

    /// Keeps who asked for the end; whether it comes now.
    fn admits(&mut self, destroy: Destroy) -> bool {
        self.destroyers.push(destroy);
        match step(self.state, Event::Command(Command::Destroy)) {
            Step::Carry(_) => true,
            Step::To(_) | Step::Ignore | Step::Deny(_) => false,
        }
    }

    fn record(&mut self, fact: Fact) {
        if let Step::To(state) = step(self.state, Event::Fact(fact)) {
            self.state = state;
        }
    }

    /// Removes everything and answers everybody. A snapshot that is under way
    /// has lost its VM: it fails, or is complete if it had all it needed.
    async fn finish(mut self, taking: Option<Taking>) {
        match self.parts.remove(&self.id, self.network.get()).await {
            Ok(()) => self.record(Fact::Destroyed),
            Err(error) => {
                tracing::error!(vm = %self.id, error = report(&error), "a VM cannot be removed");
            }
        }
        if let Some(taking) = taking {
            taking.finish().await;
        }
        self.mailbox.close();
        while let Ok(request) = self.mailbox.try_recv() {
            match request {
                Request::Claim(claim) => claim.refuse(),
                Request::Wake => {}
                Request::Destroy(destroy) => self.destroyers.push(destroy),
                Request::Snapshot(ask) => ask.refuse(HostError::NotRunning),
            }
        }
        for Destroy(gone) in self.destroyers.drain(..) {
            let _ = gone.send(());
        }
    }
}

/// How the time with a running VM ended.
enum End {
    /// By itself.
    Itself(ExitReason),
    /// Somebody asked for it.
    Destroyed,
    /// With its last snapshot.
    Written(Taking, Result<Snapshotted, HostError>),
}

impl Claim {
    /// It is not, or no longer, a VM that waits for its sandbox.
    fn refuse(self) {
        // Whoever asked may be gone.
        let _ = self.answer.send(Err(HostError::PreparedLost));
    }
}

impl Ask {
    fn refuse(self, error: HostError) {
        // Whoever asked may be gone.
        let _ = self.answer.send(Err(error));
    }
}

/// An error with its whole chain of causes, for logs.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
