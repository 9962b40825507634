//! A control plane, its server, and a host whose VMs are agents.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};

use async_trait::async_trait;
use emberbox_agent::{Agent, Machine, System};
use emberbox_api::client::Client;
use emberbox_api::{CreateSandbox, Sandbox};
use emberbox_control::{Compute, Control, Settings, Tls, TlsSource, router, serve, serve_tls};
use emberbox_core::{Shape, SnapshotId, VmId};
use emberbox_guest::client::{Dial, GuestClient};
use emberbox_guest::{Identity, Token};
use emberbox_host::{
    AfterSnapshot, BootPath, BuildFailure, BuildRequest, BuiltImage, CreateVm, Created, HostError,
    HostEvent, Lease, Origin, PoolFacts, ResourceUse, Snapshotted,
};
use emberbox_runtime::net::NetworkUse;
use emberbox_runtime::{ExitReason, MemoryUse};
use emberbox_store::Store;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::contract;
use crate::rig::builder::Builder;

pub(crate) mod builder;

/// Longest a test waits for anything; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The whole thing.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    /// What belongs to the server alone.
    secrets: TempDir,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) store: Store,
    pub(crate) key: SecretString,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) http: reqwest::Client,
    control: Arc<Control>,
    stop: Option<oneshot::Sender<()>>,
    settings: Settings,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// With settings, but for the limit of requests: tests ask far faster than
    /// any client.
    pub(crate) async fn with(mut settings: Settings) -> Self {
        settings.limits.requests_per_minute = 0;
        Self::limited(settings).await
    }

    /// With settings as they are.
    pub(crate) async fn limited(settings: Settings) -> Self {
        let (dir, secrets) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let settings = Settings {
            terminal_key: Some(secrets.path().join("terminal.key")),
            ..settings
        };
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let key = store.bootstrap().await.unwrap().secret.unwrap();
        Self::start([dir, secrets], Fleet::new(), store, key, settings).await
    }

    async fn start(
        [dir, secrets]: [TempDir; 2],
        fleet: Arc<Fleet>,
        store: Store,
        key: SecretString,
        settings: Settings,
    ) -> Self {
        let (events, receiver) = mpsc::channel(16);
        *fleet.events.lock().unwrap() = Some(events);
        let compute = FleetCompute {
            fleet: Arc::clone(&fleet),
            epoch: fleet.epoch.subscribe(),
            born: *fleet.epoch.borrow(),
        };
        let started = Control::start(store.clone(), compute, receiver, settings.clone()).await;
        let control = started.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        control.listens_on(address.port());
        let url = format!("http://{address}");
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = router(Arc::clone(&control));
        tokio::spawn(serve(listener, routes, async {
            let _dropped = stopped.await;
        }));
        Self {
            client: Client::new(&url, key.clone()).unwrap(),
            http: reqwest::Client::new(),
            dir,
            secrets,
            fleet,
            store,
            key,
            url: format!("{url}/api/v1"),
            control,
            stop: Some(stop),
            settings,
        }
    }

    /// The same over TLS: where, and the certificate of its authority.
    pub(crate) async fn serve_https(&self) -> (SocketAddr, PathBuf) {
        let dir = self.dir.path().join("tls");
        let source = TlsSource::DevelopmentCa {
            dir: dir.clone(),
            domain: self.settings.preview.domain.clone(),
        };
        let tls = Tls::open(&source).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = router(Arc::clone(&self.control));
        tokio::spawn(serve_tls(listener, tls, routes, std::future::pending()));
        (address, dir.join("ca.crt"))
    }

    /// What `kill -9` and a new start do: nothing of the old server goes on,
    /// its VMs do.
    pub(crate) async fn crash_and_restart(mut self) -> Self {
        self.fleet.epoch.send_modify(|epoch| *epoch += 1);
        drop(self.stop.take());
        self.control.close().await;
        self.store.close().await;
        let store = Store::open(&self.dir.path().join("db")).await.unwrap();
        Self::start(
            [self.dir, self.secrets],
            self.fleet,
            store,
            self.key,
            self.settings,
        )
        .await
    }

    /// A running sandbox with nothing special.
    pub(crate) async fn sandbox(&self) -> Sandbox {
        let sandbox = self.client.create_sandbox(&CreateSandbox::default()).await;
        let sandbox = sandbox.unwrap();
        assert!(sandbox.ready, "{sandbox:?}");
        sandbox
    }

    /// A request with this rig's key.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.key.expose_secret())
    }

    /// A directory of this machine that stands for one in a guest.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Status, code and whole body of an answer; checks the error shape, and that
/// the published document allows it.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, String, Value) {
    let (http, request) = request.build_split();
    let request = request.unwrap();
    let (method, url) = (request.method().clone(), request.url().clone());
    let response = http.execute(request).await.unwrap();
    let status = response.status().as_u16();
    let id = response.headers().get("x-request-id").cloned();
    let id = id.expect("every answer has a request id");
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    contract::check(method.as_str(), url.path(), status, &body);
    let code = body["error"]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if status >= 400 {
        let error = body["error"].as_object().unwrap();
        assert!(!code.is_empty() && error.contains_key("details"), "{body}");
        assert!(error["message"].is_string(), "{body}");
        assert_eq!(error["request_id"], id.to_str().unwrap(), "{body}");
    }
    (status, code, body)
}

/// Waits until `holds` says so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not come true");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The machines under the host.
pub(crate) struct Fleet {
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
    guest: GuestClient,
    /// The lives this one went on from, its own last: what a memory is here.
    memory: Vec<VmId>,
    /// Dropping it ends the agent's thread.
    _stop: oneshot::Sender<()>,
}

/// One server's view of the fleet.
struct FleetCompute {
    fleet: Arc<Fleet>,
    epoch: watch::Receiver<u32>,
    born: u32,
}

impl Fleet {
    fn new() -> Arc<Self> {
        Arc::new(Self {
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
        let vm = Vm::start(&request, memory).await;
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
        vms.get(vm)
            .map(|vm| vm.guest.clone())
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

impl Drop for Vm {
    fn drop(&mut self) {
        // As the host does: a guest that is gone closes no connection.
        self.guest.end();
    }
}

impl Vm {
    async fn start(request: &CreateVm, memory: Vec<VmId>) -> Self {
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
        let guest = GuestClient::new(Loopback(known.await.unwrap()), token.clone());
        let identity = Identity {
            token,
            hostname: request.sandbox.to_string(),
            machine_id: [1; 16],
            env: request.env.clone().into_iter().collect(),
            unix_time_ns: 1,
            entropy: [2; 32],
            mtu: 1500,
        };
        guest.claim(identity).await.unwrap();
        Self {
            guest,
            memory,
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

/// A file here that a command in a guest can name.
pub(crate) fn marker(rig: &Rig, name: &str) -> PathBuf {
    rig.dir.path().join(name)
}
