//! A control plane, its server, and a host whose VMs are agents.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use emberbox_api::client::Client;
use emberbox_api::{CreateSandbox, Sandbox};
use emberbox_control::{Control, Settings, Tls, TlsSource, router, serve, serve_tls};
use emberbox_store::Store;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::contract;
use crate::rig::fleet::{Agents, Fleet};

pub(crate) mod builder;
pub(crate) mod fleet;

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
        Self::start(
            [dir, secrets],
            Fleet::new(Some(Agents)),
            store,
            key,
            settings,
        )
        .await
    }

    async fn start(
        [dir, secrets]: [TempDir; 2],
        fleet: Arc<Fleet>,
        store: Store,
        key: SecretString,
        settings: Settings,
    ) -> Self {
        let (compute, receiver) = fleet.serve();
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
        self.fleet.crash();
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

/// A file here that a command in a guest can name.
pub(crate) fn marker(rig: &Rig, name: &str) -> PathBuf {
    rig.dir.path().join(name)
}
