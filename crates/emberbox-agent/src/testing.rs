//! What the tests share: an agent on a loopback port and clients of it.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use emberbox_guest::client::{ClientError, Dial, GuestClient};
use emberbox_guest::frame;
use emberbox_guest::{FromAgent, GuestErrorCode, Identity, ToAgent, Token};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::{Agent, Machine, System};

/// Longest a test waits for anything; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn token() -> Token {
    Token::new([7; 32])
}

pub(crate) fn identity() -> Identity {
    Identity {
        token: token(),
        hostname: "sbx-1".into(),
        machine_id: [0xab; 16],
        env: vec![("FROM_IDENTITY".into(), "yes".into())],
        unix_time_ns: 1,
        entropy: [1; 32],
        mtu: 1500,
    }
}

/// A running agent and a directory that is its root.
pub(crate) struct Guest {
    pub(crate) root: TempDir,
    pub(crate) client: GuestClient,
    pub(crate) address: SocketAddr,
}

impl Guest {
    pub(crate) async fn unclaimed() -> Self {
        Self::with_template_env("").await
    }

    pub(crate) async fn with_template_env(env: &str) -> Self {
        // Tests that use up all places hold two descriptors and more for each.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let root = TempDir::new().unwrap();
        std::fs::create_dir_all(root.path().join("etc/emberbox")).unwrap();
        std::fs::write(root.path().join("etc/emberbox/env"), env).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let system = System::new(root.path(), Machine::Shared).unwrap();
        tokio::spawn(Agent::new(system).serve(listener));
        Self {
            root,
            client: GuestClient::new(Loopback(address), token()),
            address,
        }
    }

    pub(crate) async fn claimed() -> Self {
        let guest = Self::unclaimed().await;
        guest.client.claim(identity()).await.unwrap();
        guest
    }

    pub(crate) fn client_with(&self, token: Token) -> GuestClient {
        GuestClient::new(Loopback(self.address), token)
    }

    /// A path below the guest's root, for calls and commands.
    pub(crate) fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire(TcpStream::connect(self.address).await.unwrap())
    }
}

/// A connection without a client's manners.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) async fn send(&mut self, message: &ToAgent) {
        frame::write(&mut self.0, message).await.unwrap();
    }

    /// The next answer, or `None` when the agent closed.
    pub(crate) async fn answer(&mut self) -> Option<FromAgent> {
        let mut buffer = Vec::new();
        let answer = frame::read(&mut self.0, &mut buffer);
        timeout(PATIENCE, answer).await.expect("an answer").ok()
    }
}

struct Loopback(SocketAddr);

#[async_trait::async_trait]
impl Dial for Loopback {
    async fn dial(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// The class of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> GuestErrorCode {
    match result {
        Err(ClientError::Guest(error)) => error.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Waits until `holds` says so.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not come true");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a process has ended, whether or not its new parent reaped it.
pub(crate) async fn gone(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    eventually("the end of a process", || async {
        match std::fs::read_to_string(&stat) {
            Ok(text) => text.contains(") Z ") || text.contains(") X "),
            Err(_) => true,
        }
    })
    .await;
}
