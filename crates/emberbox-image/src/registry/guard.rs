//! The way out to a registry that the operator did not name.
//!
//! Such a registry decides itself where its clients go: by what its name
//! resolves to at each moment, by redirects, and by where it says that tokens
//! are given out. So its client has one way out: a proxy of this process, for
//! that client alone, which looks an address up once, finds it public, and
//! connects to that very address. It takes tunnels only, so all there is is
//! TLS, and it cuts off who sends more than was allowed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Most bytes of a request for a tunnel.
const HEAD: usize = 8 * 1024;

/// How long a client may take to ask for a tunnel, and a registry to be
/// connected to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections at a time. A client of a registry needs a few.
const CONNECTIONS: usize = 64;

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// The way out of one client. It closes when this is dropped.
pub(super) struct Guard {
    address: SocketAddr,
    password: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    may_go_to: fn(IpAddr) -> bool,
    /// What a client has to say.
    credentials: String,
    /// Bytes that may still come.
    allowance: AtomicU64,
    refused: AtomicBool,
}

impl Guard {
    /// For a client that may only go where `may_go_to` says.
    pub(super) async fn open(may_go_to: fn(IpAddr) -> bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let password = hex::encode(rand::random::<[u8; 16]>());
        let state = Arc::new(State {
            may_go_to,
            credentials: format!("Basic {}", STANDARD.encode(format!("guard:{password}"))),
            allowance: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self {
            address,
            password,
            state,
            serving,
        })
    }

    /// The proxy's URL, for its client alone.
    pub(super) fn url(&self) -> String {
        format!("http://guard:{}@{}", self.password, self.address)
    }

    /// Sets how many bytes may come from now on.
    pub(super) fn allow(&self, bytes: u64) {
        self.state.allowance.store(bytes, Ordering::Relaxed);
    }

    /// Whether somebody was cut off since it was last allowed something.
    pub(super) fn is_exhausted(&self) -> bool {
        self.state.allowance.load(Ordering::Relaxed) == 0
    }

    /// Whether it ever refused an address.
    pub(super) fn has_refused(&self) -> bool {
        self.state.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // Its client sees that the connection ended.
            if let Err(error) = tunnel(client, &state).await {
                tracing::debug!(%error, "a tunnel to a registry ended");
            }
        });
    }
}

async fn tunnel(mut client: TcpStream, state: &State) -> io::Result<()> {
    let head = timeout(PATIENCE, head(&mut client)).await??;
    let answer = match asked(&head, &state.credentials) {
        Ok((host, port)) => match timeout(PATIENCE, connect(host, port, state)).await? {
            Ok(server) => {
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                return copy(client, server, state).await;
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                state.refused.store(true, Ordering::Relaxed);
                "403 Forbidden"
            }
            Err(_) => "502 Bad Gateway",
        },
        Err(answer) => answer,
    };
    let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(answer.as_bytes()).await
}

/// The request, without the empty line at its end.
async fn head(client: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // What follows is for the registry.
        head.push(client.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// Where a client wants to go; else what it is told.
fn asked<'a>(head: &'a str, credentials: &str) -> Result<(&'a str, u16), &'static str> {
    let mut lines = head.lines();
    let authorized = lines.clone().any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == credentials
        })
    });
    if !authorized {
        return Err("407 Proxy Authentication Required");
    }
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        return Err("403 Forbidden");
    };
    let (host, port) = target.rsplit_once(':').ok_or("400 Bad Request")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().map_err(|_bad| "400 Bad Request")?;
    Ok((host, port))
}

/// Connects to an address that was found allowed, not to a name.
async fn connect(host: &str, port: u16, state: &State) -> io::Result<TcpStream> {
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if !found.iter().all(|address| (state.may_go_to)(address.ip())) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    TcpStream::connect(&found[..]).await
}

async fn copy(client: TcpStream, server: TcpStream, state: &State) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = tokio::io::copy(&mut from_client, &mut to_server);
    let back = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return to_client.shutdown().await;
            }
            if !state.take(count as u64) {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    tokio::select! {
        there = there => there.map(drop),
        back = back => back,
    }
}

impl State {
    fn take(&self, bytes: u64) -> bool {
        let taken = self
            .allowance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(bytes))
            });
        // None is left for a byte too many.
        taken.is_ok_and(|left| left > bytes)
    }
}

#[cfg(test)]
mod tests;
