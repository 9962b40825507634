//! The server that is measured, and the one beside it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use emberbox_control::{Control, Settings, router, serve};
use emberbox_core::{Limits, Shape};
use emberbox_store::{
    Boot, Caller, ExternalIds, Inserted, NewSandbox, PlaceRequest, SandboxRecord, Store,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Map;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};

use crate::rig::fleet::Fleet;

/// Sandboxes of the tenant that lists.
pub(crate) const SANDBOXES: usize = 10_000;

/// How many groups they are in; as many are in each.
const GROUPS: usize = 100;

/// Tenants that create: one alone would have far more than any has.
const CREATORS: usize = 50;

/// A server, and whom it serves.
#[derive(Clone)]
pub(crate) struct Served {
    inner: Arc<Inner>,
    pub(crate) address: SocketAddr,
    /// Of the tenant that reads.
    pub(crate) key: String,
    /// Of tenants that create.
    pub(crate) creators: Vec<String>,
    /// Of the tenant that has many sandboxes.
    pub(crate) list_key: String,
    /// A sandbox of the first.
    pub(crate) sandbox: String,
}

struct Inner {
    runtime: Runtime,
    control: Arc<Control>,
    store: Store,
    _data: TempDir,
}

impl Served {
    /// Starts it on the cores this thread may use.
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let data = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let started = runtime.block_on(async {
            let store = Store::open(&data.path().join("db")).await.unwrap();
            let key = store.bootstrap().await.unwrap().secret.unwrap();
            let lists = store.create_tenant("lists").await.unwrap().secret.unwrap();
            let mut creators = Vec::new();
            for number in 0..CREATORS {
                let made = store.create_tenant(&format!("creator-{number}")).await;
                creators.push(made.unwrap().secret.unwrap().expose_secret().to_owned());
            }
            let settings = Settings {
                limits: limits(),
                ..Settings::default()
            };
            let (compute, events) = Fleet::new(None).serve();
            let control = Control::start(store.clone(), compute, events, settings)
                .await
                .unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            control.listens_on(address.port());
            let routes = router(Arc::clone(&control));
            tokio::spawn(serve(listener, routes, std::future::pending()));
            let sandbox = insert(&store, &caller(&store, &key).await, &new(0)).await;
            ready(&store, &sandbox).await;
            let sandbox = sandbox.id.to_string();
            let inner = (store, control);
            (inner, address, [key, lists], creators, sandbox)
        });
        let ((store, control), address, [key, lists], creators, sandbox) = started;
        Self {
            inner: Arc::new(Inner {
                runtime,
                control,
                store,
                _data: data,
            }),
            address,
            key: key.expose_secret().to_owned(),
            creators,
            list_key: lists.expose_secret().to_owned(),
            sandbox,
        }
    }

    /// A handler on the same cores that answers every GET with these bytes.
    pub(crate) fn serve_bare(&self, body: &[u8]) -> SocketAddr {
        let body = bytes::Bytes::copy_from_slice(body);
        let answer = move || std::future::ready(([(CONTENT_TYPE, "application/json")], body));
        let routes = Router::new().route("/api/v1/sandboxes/{id}", get(answer));
        let runtime: &Handle = self.inner.runtime.handle();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
        address
    }

    /// Gives the tenant that lists its sandboxes.
    pub(crate) fn fill(&self) {
        let inner = Arc::clone(&self.inner);
        let key = SecretString::from(self.list_key.clone());
        let filled = std::thread::spawn(move || {
            inner.runtime.block_on(async {
                let caller = caller(&inner.store, &key).await;
                fill(&inner.store, &caller).await;
            });
        });
        filled.join().unwrap();
    }

    pub(crate) fn stop(self) {
        let inner = &self.inner;
        inner.runtime.block_on(async {
            inner.control.close().await;
            inner.store.close().await;
        });
    }
}

/// Everybody may have as much as they like.
fn limits() -> Limits {
    Limits {
        max_sandboxes: u32::MAX,
        requests_per_minute: 0,
        ..Limits::default()
    }
}

async fn caller(store: &Store, key: &SecretString) -> Caller {
    let caller = store.authenticate(key.expose_secret()).await.unwrap();
    caller.unwrap()
}

/// Every one of them failed, but one of each group, which runs.
async fn fill(store: &Store, caller: &Caller) {
    for number in 0..SANDBOXES {
        let record = insert(store, caller, &new(number)).await;
        if number < GROUPS {
            ready(store, &record).await;
        } else {
            store.record_failed(&record.vm, "none").await.unwrap();
        }
    }
}

async fn insert(store: &Store, caller: &Caller, new: &NewSandbox) -> SandboxRecord {
    let inserted = store.insert_sandbox(caller, new, None, &limits()).await;
    match inserted.unwrap() {
        Inserted::New(record) | Inserted::Existing(record) => record,
    }
}

async fn ready(store: &Store, record: &SandboxRecord) {
    let boot = Boot {
        path: "snapshot",
        ms: 7,
    };
    let recorded = store.record_ready(&record.id, &record.vm, boot);
    recorded.await.unwrap();
}

fn new(number: usize) -> NewSandbox {
    let group = number % GROUPS;
    NewSandbox {
        place: PlaceRequest::default(),
        external: ExternalIds {
            user: Some(format!("user-{group}")),
            ..ExternalIds::default()
        },
        name: None,
        slug: None,
        tags: vec![format!("group-{group}")],
        metadata: Map::new(),
        env: BTreeMap::new(),
        template_id: "miosa-sandbox".to_owned(),
        image_id: "miosa-sandbox".to_owned(),
        build: None,
        size: None,
        shape: Shape::DEFAULT,
        timeout_sec: 3600,
        idle_timeout_sec: None,
        always_on: false,
        persistent: false,
        auto_start: false,
        origin: None,
        vm: None,
        batch_item: None,
    }
}
