//! The server: who may connect, and what an agent knows between calls.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use emberbox_guest::watch::WATCHERS;
use emberbox_guest::{GENERATION, GuestError, GuestErrorCode, Identity, Pong, Revival, Token};
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::connection;
use crate::exec::{Environment, EnvironmentError};
use crate::freezer::Freezer;
use crate::processes::Processes;
use crate::system::System;
use crate::terminals::Terminals;
use crate::{identity, stale};

/// Most connections at once. A host keeps a handful; the rest is room for many
/// long commands, and the bound keeps descriptors under the agent's limit.
const CONNECTIONS: usize = 512;

/// Background commands whose output is still read after their call ended. One
/// more and its pipes are closed, which it sees as a broken pipe.
const LINGERING: usize = 256;

/// Connections to servers of the guest at once: half of all, so that a busy
/// web app with a WebSocket for every visitor leaves room for calls.
const RELAYS: usize = CONNECTIONS / 2;

/// Seconds of silence after which a peer is asked whether it still lives:
/// after a restore the peers of the snapshot are gone and must free their place.
const KEEPALIVE_SECONDS: u32 = 60;

/// Pause after the kernel could not accept for want of memory or descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// One guest's agent.
pub struct Agent {
    pub(crate) system: System,
    pub(crate) lingering: Arc<Semaphore>,
    pub(crate) relays: Semaphore,
    pub(crate) processes: Processes,
    pub(crate) terminals: Terminals,
    pub(crate) watchers: Semaphore,
    pub(crate) freezer: Freezer,
    environment: Arc<Environment>,
    claimed: Mutex<Option<Arc<Claimed>>>,
    ready_after_ns: OnceLock<u64>,
    port: OnceLock<u16>,
}

/// What a claim leaves behind, until the next life.
struct Claimed {
    token: Token,
    environment: Arc<Environment>,
}

impl Agent {
    /// An unclaimed agent.
    #[must_use]
    pub fn new(system: System) -> Arc<Self> {
        let environment = Environment::of_template(&system);
        Arc::new(Self {
            freezer: Freezer::new(system.machine()),
            system,
            lingering: Arc::new(Semaphore::new(LINGERING)),
            relays: Semaphore::new(RELAYS),
            processes: Processes::default(),
            terminals: Terminals::default(),
            watchers: Semaphore::new(WATCHERS),
            environment: Arc::new(environment),
            claimed: Mutex::default(),
            ready_after_ns: OnceLock::new(),
            port: OnceLock::new(),
        })
    }

    /// Answers calls until the listener fails. Must run on a current-thread
    /// runtime: a spawn changes what the whole process is for a moment.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<Infallible> {
        // Accepted sockets inherit all of these.
        setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
        setsockopt(&listener, sockopt::KeepAlive, &true)?;
        setsockopt(&listener, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
        let port = listener.local_addr()?.port();
        self.port.get_or_init(|| port);
        self.ready_after_ns.get_or_init(since_boot);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places)
                .acquire_owned()
                .await
                .expect("nobody closes the semaphore");
            let stream = match listener.accept().await {
                Ok((stream, _peer)) => stream,
                Err(error) if accept_may_work_later(&error) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let agent = Arc::clone(&self);
            tokio::spawn(async move {
                connection::serve(agent, stream).await;
                drop(place);
            });
        }
    }

    pub(crate) fn pong(&self) -> Pong {
        Pong {
            generation: GENERATION,
            claimed: self.is_claimed(),
            ready_after_ns: self.ready_after_ns.get().copied().unwrap_or_default(),
        }
    }

    /// Whether this is the agent's own port.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        self.port.get() == Some(&port)
    }

    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed().is_some()
    }

    /// Whether a call with this token may do anything at all.
    pub(crate) fn admits(&self, token: &Token) -> bool {
        self.claimed().is_none_or(|claimed| claimed.token == *token)
    }

    /// What every command sees.
    pub(crate) fn environment(&self) -> Arc<Environment> {
        let environment = self
            .claimed()
            .map(|claimed| Arc::clone(&claimed.environment));
        environment.unwrap_or_else(|| Arc::clone(&self.environment))
    }

    /// Takes the identity. Without an await in it, so no call comes between
    /// its parts.
    pub(crate) fn claim(&self, identity: Identity) -> Result<(), GuestError> {
        let environment = self.environment_with(&identity.env)?;
        if self.is_claimed() {
            let message = "the guest is claimed already";
            return Err(GuestError::new(GuestErrorCode::AlreadyClaimed, message));
        }
        identity::apply(&self.system, &identity)?;
        self.set_claimed(identity.token, environment);
        Ok(())
    }

    /// Begins the life after a restore; `caller` keeps its connection. Without
    /// an await in it, so no call comes between its parts.
    pub(crate) fn revive(
        &self,
        revival: Revival,
        caller: Option<SocketAddr>,
    ) -> Result<(), GuestError> {
        let environment = self.environment_with(&revival.env)?;
        identity::renew(&self.system, &revival)?;
        self.set_claimed(revival.token, environment);
        stale::reset(&self.system, caller);
        // Not before all of it is in force: the last step.
        self.let_go(revival.unix_time_ns)
    }

    /// Holds every process of the user's; says since when.
    pub(crate) async fn freeze(&self, asked_unix_ns: u64) -> Result<Duration, GuestError> {
        let held = self.freezer.hold(asked_unix_ns).await;
        held.map_err(|error| {
            let message = format_args!("cannot hold all processes: {error}");
            GuestError::new(GuestErrorCode::Io, message)
        })
    }

    /// Lets them go at the right time.
    pub(crate) fn thaw(&self, unix_time_ns: u64) -> Result<(), GuestError> {
        let set = identity::set_clock(&self.system, unix_time_ns);
        self.let_go(unix_time_ns)?;
        set
    }

    fn let_go(&self, unix_time_ns: u64) -> Result<(), GuestError> {
        self.freezer.let_go(unix_time_ns).map_err(|error| {
            let message = format_args!("cannot let all processes go: {error}");
            GuestError::new(GuestErrorCode::Io, message)
        })
    }

    /// Puts other variables into force for what starts from now on.
    pub(crate) fn set_environment(&self, env: &[(String, String)]) -> Result<(), GuestError> {
        let environment = self.environment_with(env)?;
        let claimed = self.claimed().ok_or_else(|| {
            GuestError::new(GuestErrorCode::Unclaimed, "the guest has no identity yet")
        })?;
        self.set_claimed(claimed.token.clone(), environment);
        Ok(())
    }

    fn environment_with(&self, env: &[(String, String)]) -> Result<Environment, GuestError> {
        let mut environment = Environment::clone(&self.environment);
        environment
            .extend(env)
            .map_err(|error: EnvironmentError| GuestError::new(GuestErrorCode::Protocol, error))?;
        Ok(environment)
    }

    fn claimed(&self) -> Option<Arc<Claimed>> {
        let claimed = self.claimed.lock().expect("no panic while held");
        claimed.clone()
    }

    fn set_claimed(&self, token: Token, environment: Environment) {
        let claimed = Claimed {
            token,
            environment: Arc::new(environment),
        };
        *self.claimed.lock().expect("no panic while held") = Some(Arc::new(claimed));
    }
}

fn since_boot() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    })
}

fn accept_may_work_later(error: &io::Error) -> bool {
    use nix::libc;
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EPROTO
                | libc::EINTR
        )
    )
}
