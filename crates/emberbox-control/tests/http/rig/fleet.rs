//! A host that is a fake at its lowest edge: each of its "VMs" is the real
//! guest agent, serving the real protocol on a loopback port of this machine,
//! or nothing at all where only the control plane is looked at.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};

use async_trait::async_trait;
use emberbox_agent::{Agent, Machine, System};
use emberbox_control::Compute;
use emberbox_core::{Shape, SnapshotId, VmId};
use emberbox_guest::client::{Dial, GuestClient};
use emberbox_guest::{Identity, Token};
use emberbox_host::{
    AfterSnapshot, BootPath, BuildFailure, BuildRequest, BuiltImage, CreateVm, Created, HostError,
    HostEvent, Lease, Origin, PoolFacts, ResourceUse, Snapshotted,
};
use emberbox_runtime::net::NetworkUse;
use emberbox_runtime::{ExitReason, MemoryUse};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::builder::Builder;

/// Guests of VMs, an agent in each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Agents;

/// The machines under the host.
pub(crate) struct Fleet {
    /// Without them VMs come up and there is nothing in them.
    agents: Option<Agents>,
    vms: Mutex<HashMap<VmId, Vm>>,
    /// Each with the memory of the VM it was taken of.
    pub(crate) snapshots: Mutex<HashMap<SnapshotId, Vec<VmId>>>,
    /// What stands for the servers that listen in guests.
    ports: Mutex<HashMap<(VmId, u16), SocketAddr>>,
    /// What their networks carried; stays when they end.
    carried: Mutex<HashMap<VmId, NetworkUse>>,
    /// While false, VMs do not come up.
    pub(crate) open: watch::Sender<bool>,
    /// Raised by a crash: what an older server was doing never goes on.
    epoch: watch::Sender<u32>,
    pub(crate) failing: Mutex<bool>,
    /// While true, there is no room for another VM.
    pub(crate) full: Mutex<bool>,
    /// While true, there is room until it is needed.
    pub(crate) full_at_create: Mutex<bool>,
    pub(crate) builder: Builder,
    /// VMs that are prepared; the last is leased first.
    pub(crate) prepared: Mutex<Vec<VmId>>,
    /// Prepared VMs that cannot be claimed.
    pub(crate) lost: Mutex<Vec<VmId>>,
    events: Mutex<Option<mpsc::Sender<HostEvent>>>,
}

struct Vm {
    guest: Option<Guest>,
    /// The lives this one went on from, its own last: what a memory is here.
    memory: Vec<VmId>,
}

struct Guest {
    client: GuestClient,
    /// Dropping it ends the agent's thread.
    _stop: oneshot::Sender<()>,
}

/// One server's view of the fleet.
pub(crate) struct FleetCompute {
    fleet: Arc<Fleet>,
    epoch: watch::Receiver<u32>,
    born: u32,
}

impl Fleet {
    pub(crate) fn new(agents: Option<Agents>) -> Arc<Self> {
        Arc::new(Self {
            agents,
            vms: Mutex::default(),
            snapshots: Mutex::default(),
            ports: Mutex::default(),
            carried: Mutex::default(),
            open: watch::Sender::new(true),
            epoch: watch::Sender::new(0),
            failing: Mutex::default(),
            full: Mutex::default(),
            full_at_create: Mutex::default(),
            builder: Builder::default(),
            prepared: Mutex::default(),
            lost: Mutex::default(),
            events: Mutex::default(),
        })
    }

    /// What one server sees of it, and hears.
    pub(crate) fn serve(self: &Arc<Self>) -> (FleetCompute, mpsc::Receiver<HostEvent>) {
        let (events, receiver) = mpsc::channel(16);
        *self.events.lock().unwrap() = Some(events);
        let compute = FleetCompute {
            fleet: Arc::clone(self),
            epoch: self.epoch.subscribe(),
            born: *self.epoch.borrow(),
        };
        (compute, receiver)
    }

    /// Nothing that a server is doing goes on.
    pub(crate) fn crash(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    pub(crate) fn running(&self) -> Vec<VmId> {
        self.vms.lock().unwrap().keys().cloned().collect()
    }

    /// The lives that the one running VM's memory went on from.
    pub(crate) fn memory(&self, vm: &VmId) -> Vec<VmId> {
        self.vms.lock().unwrap()[vm].memory.clone()
    }

    /// From now on a guest's port leads to a server of the test.
    pub(crate) fn listen(&self, vm: &VmId, port: u16, server: SocketAddr) {
        let port = (vm.clone(), port);
        self.ports.lock().unwrap().insert(port, server);
    }

    /// From now on a VM's network has carried this many bytes to the outside.
    pub(crate) fn carry(&self, vm: &VmId, egress_bytes: u64) {
        let carried = NetworkUse {
            egress_bytes,
            ..NetworkUse::default()
        };
        self.carried.lock().unwrap().insert(vm.clone(), carried);
    }

    /// A VM dies by itself.
    pub(crate) async fn kill(&self, vm: &VmId) {
        self.vms.lock().unwrap().remove(vm).unwrap();
        let events = self.events.lock().unwrap().clone().unwrap();
        let reason = ExitReason::VmmDied {
            detail: "secret detail".to_owned(),
        };
        let ended = HostEvent::Ended {
            vm: vm.clone(),
            reason,
        };
        events.send(ended).await.unwrap();
    }

    /// A VM dies while no server watches.
    pub(crate) fn lose(&self, vm: &VmId) {
        self.vms.lock().unwrap().remove(vm).unwrap();
    }
}

#[async_trait]
impl Compute for FleetCompute {
    fn has_image(&self, image: &str) -> bool {
        self.fleet.builder.has_image(image)
    }

    fn has_room(&self, _shape: Shape, _origin: &Origin) -> Result<(), HostError> {
        match *self.fleet.full.lock().unwrap() {
            true => Err(HostError::NoCapacity),
            false => Ok(()),
        }
    }

    fn lease(&self, image: &str, _shape: Shape) -> Option<Lease> {
        if image != "miosa-sandbox" {
            return None;
        }
        let vm = self.fleet.prepared.lock().unwrap().pop()?;
        let fleet = Arc::clone(&self.fleet);
        Some(Lease::new(vm, move |vm| {
            fleet.prepared.lock().unwrap().push(vm.clone());
        }))
    }

    fn pool(&self) -> PoolFacts {
        PoolFacts {
            hits: 3,
            ..PoolFacts::default()
        }
    }

    async fn create(&self, request: CreateVm) -> Result<Created, HostError> {
        if !self.fleet.builder.has_image(&request.image) {
            return Err(HostError::UnknownImage(request.image));
        }
        let mut open = self.fleet.open.subscribe();
        let mut epoch = self.epoch.clone();
        let crashed = epoch.wait_for(|epoch| *epoch != self.born);
        tokio::select! {
            _ = open.wait_for(|open| *open) => {}
            _ = crashed => return Err(HostError::ShuttingDown),
        }
        if *self.fleet.failing.lock().unwrap() {
            return Err(HostError::Start("internal detail".into()));
        }
        if *self.fleet.full_at_create.lock().unwrap() {
            return Err(HostError::NoCapacity);
        }
        if self.fleet.lost.lock().unwrap().contains(&request.vm) {
            return Err(HostError::PreparedLost);
        }
        let memory = match &request.origin {
            Origin::Image => vec![request.vm.clone()],
            Origin::Snapshot { id, .. } => {
                let snapshots = self.fleet.snapshots.lock().unwrap();
                let known = snapshots.get(id).cloned();
                let mut memory = known.ok_or_else(|| HostError::UnknownSnapshot(id.clone()))?;
                memory.push(request.vm.clone());
                memory
            }
        };
        let guest = match self.fleet.agents {
            Some(Agents) => Some(Guest::start(&request).await),
            None => None,
        };
        let vm = Vm { guest, memory };
        self.fleet.carry(&request.vm, 0);
        self.fleet.vms.lock().unwrap().insert(request.vm, vm);
        Ok(Created {
            boot_path: BootPath::Snapshot,
            boot_ms: 7,
            steps: vec![("claim", Duration::from_millis(7))],
        })
    }

    fn guest(&self, vm: &VmId) -> Result<GuestClient, HostError> {
        let vms = self.fleet.vms.lock().unwrap();
        let guest = vms.get(vm).and_then(|vm| vm.guest.as_ref());
        guest
            .map(|guest| guest.client.clone())
            .ok_or(HostError::NotRunning)
    }

    async fn dial(&self, vm: &VmId, port: u16) -> io::Result<TcpStream> {
        assert_ne!(
            port,
            emberbox_guest::PORT,
            "the agent's port is never dialled"
        );
        if !self.fleet.vms.lock().unwrap().contains_key(vm) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let server = self
            .fleet
            .ports
            .lock()
            .unwrap()
            .get(&(vm.clone(), port))
            .copied();
        TcpStream::connect(server.ok_or(io::ErrorKind::ConnectionRefused)?).await
    }

    async fn snapshot(
        &self,
        vm: &VmId,
        snapshot: &SnapshotId,
        after: AfterSnapshot,
    ) -> Result<Snapshotted, HostError> {
        let mut open = self.fleet.open.subscribe();
        let mut epoch = self.epoch.clone();
        let crashed = epoch.wait_for(|epoch| *epoch != self.born);
        tokio::select! {
            _ = open.wait_for(|open| *open) => {}
            _ = crashed => return Err(HostError::ShuttingDown),
        }
        if *self.fleet.failing.lock().unwrap() {
            return Err(HostError::Snapshot("internal detail".into()));
        }
        let mut vms = self.fleet.vms.lock().unwrap();
        let memory = vms.get(vm).ok_or(HostError::NotRunning)?.memory.clone();
        if after == AfterSnapshot::End {
            vms.remove(vm);
        }
        let mut snapshots = self.fleet.snapshots.lock().unwrap();
        snapshots.insert(snapshot.clone(), memory);
        Ok(Snapshotted {
            stopped_us: 1500,
            size_bytes: 4096,
        })
    }

    async fn delete_snapshot(&self, snapshot: &SnapshotId) -> Result<(), HostError> {
        self.fleet.snapshots.lock().unwrap().remove(snapshot);
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<SnapshotId>, HostError> {
        let snapshots = self.fleet.snapshots.lock().unwrap();
        Ok(snapshots.keys().cloned().collect())
    }

    async fn destroy(&self, vm: &VmId) -> Result<(), HostError> {
        self.fleet.vms.lock().unwrap().remove(vm);
        Ok(())
    }

    fn running(&self) -> Vec<VmId> {
        self.fleet.running()
    }

    async fn network_use(&self, vm: &VmId) -> Result<NetworkUse, HostError> {
        let carried = self.fleet.carried.lock().unwrap();
        carried.get(vm).copied().ok_or(HostError::NotRunning)
    }

    async fn resource_use(&self, vm: &VmId) -> Result<ResourceUse, HostError> {
        if !self.fleet.running().contains(vm) {
            return Err(HostError::NotRunning);
        }
        Ok(ResourceUse {
            memory: MemoryUse {
                pss: 5000,
                private: 4000,
            },
            cpu_time: Duration::from_millis(1500),
            disk_bytes: 6000,
        })
    }

    async fn build(&self, request: BuildRequest) -> Result<BuiltImage, BuildFailure> {
        let mut epoch = self.epoch.clone();
        let crashed = async move {
            let _sender_lives = epoch.wait_for(|epoch| *epoch != self.born).await;
        };
        self.fleet.builder.build(request, crashed).await
    }

    async fn remove_image(&self, image: &str) -> Result<(), HostError> {
        self.fleet.builder.remove_image(image);
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // As the host does: a guest that is gone closes no connection.
        self.client.end();
    }
}

impl Guest {
    async fn start(request: &CreateVm) -> Self {
        let (address, known) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // An agent wants a current-thread runtime: it is alone in its guest.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                let root = TempDir::new().unwrap();
                std::fs::create_dir_all(root.path().join("etc")).unwrap();
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                address.send(listener.local_addr().unwrap()).unwrap();
                let system = System::new(root.path(), Machine::Shared).unwrap();
                tokio::select! {
                    _ = Agent::new(system).serve(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        let token = Token::new([9; 32]);
        let client = GuestClient::new(Loopback(known.await.unwrap()), token.clone());
        let identity = Identity {
            token,
            hostname: request.sandbox.to_string(),
            machine_id: [1; 16],
            env: request.env.clone().into_iter().collect(),
            unix_time_ns: 1,
            entropy: [2; 32],
            mtu: 1500,
        };
        client.claim(identity).await.unwrap();
        Self {
            client,
            _stop: stop,
        }
    }
}

struct Loopback(SocketAddr);

#[async_trait]
impl Dial for Loopback {
    async fn dial(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}
