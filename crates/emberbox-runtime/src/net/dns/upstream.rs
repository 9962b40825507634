//! The resolvers of the host: which they are, and asking them in turn.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{is_answer_to, read_message, write_message};

/// How often a query is asked, over all resolvers. With [`ATTEMPT`] it ends
/// before the five seconds after which glibc asks again.
const ATTEMPTS: usize = 3;

/// How long one resolver may take.
const ATTEMPT: Duration = Duration::from_millis(1500);

/// The longest answer there is over either transport, in bytes.
const ANSWER_MAX: usize = 65_535;

/// What resolv.conf(5) calls MAXNS.
const RESOLVERS_MAX: usize = 3;

const DNS_PORT: u16 = 53;

/// The resolvers, and which of them answered last.
pub(in crate::net) struct Upstreams {
    source: Source,
    preferred: AtomicUsize,
}

enum Source {
    Fixed(Arc<[SocketAddr]>),
    /// Read again whenever it changes: a laptop changes networks.
    File {
        path: PathBuf,
        read: Mutex<Read>,
    },
}

struct Read {
    modified: Option<SystemTime>,
    resolvers: Arc<[SocketAddr]>,
}

impl Upstreams {
    /// These resolvers, or those of `/etc/resolv.conf`.
    pub(in crate::net) fn new(fixed: Option<&[SocketAddr]>) -> Self {
        let source = match fixed {
            Some(resolvers) => Source::Fixed(resolvers.into()),
            None => Source::File {
                path: PathBuf::from("/etc/resolv.conf"),
                read: Mutex::new(Read {
                    modified: None,
                    resolvers: default_resolvers(),
                }),
            },
        };
        Self {
            source,
            preferred: AtomicUsize::new(0),
        }
    }

    /// Asks over UDP; `None` if nobody answers. Cancel-safe.
    pub(super) async fn ask_udp(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.ask(query, Transport::Udp).await
    }

    /// Asks over TCP; `None` if nobody answers. Cancel-safe.
    pub(super) async fn ask_tcp(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.ask(query, Transport::Tcp).await
    }

    async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let resolvers = self.resolvers();
        let first = self.preferred.load(Ordering::Relaxed);
        for attempt in first..first + ATTEMPTS {
            let position = attempt % resolvers.len().max(1);
            let resolver = *resolvers.get(position)?;
            let exchange = async {
                match transport {
                    Transport::Udp => exchange_udp(resolver, query).await,
                    Transport::Tcp => exchange_tcp(resolver, query).await,
                }
            };
            match timeout(ATTEMPT, exchange).await {
                Ok(Ok(answer)) => {
                    self.preferred.store(position, Ordering::Relaxed);
                    return Some(answer);
                }
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver failed"),
                Err(_elapsed) => tracing::debug!(%resolver, "a resolver did not answer"),
            }
        }
        None
    }

    fn resolvers(&self) -> Arc<[SocketAddr]> {
        match &self.source {
            Source::Fixed(resolvers) => Arc::clone(resolvers),
            Source::File { path, read } => {
                let mut read = read.lock().expect("no panic while it is read");
                read.refresh(path);
                Arc::clone(&read.resolvers)
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Udp,
    Tcp,
}

impl Read {
    fn refresh(&mut self, path: &Path) {
        let modified = fs::metadata(path).and_then(|file| file.modified()).ok();
        // A file that is being replaced is absent for a moment.
        if modified.is_none() || modified == self.modified {
            return;
        }
        match fs::read_to_string(path) {
            Ok(text) => {
                self.resolvers = parse(&text);
                self.modified = modified;
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the resolvers");
            }
        }
    }
}

/// The resolvers in a resolv.conf(5).
pub(super) fn parse(text: &str) -> Arc<[SocketAddr]> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|&word| word == "nameserver");
        let address: IpAddr = address.and_then(|_| words.next())?.parse().ok()?;
        Some(SocketAddr::new(address, DNS_PORT))
    });
    let found: Arc<[SocketAddr]> = named.take(RESOLVERS_MAX).collect();
    if found.is_empty() {
        default_resolvers()
    } else {
        found
    }
}

/// What resolv.conf(5) promises when it names none.
fn default_resolvers() -> Arc<[SocketAddr]> {
    [SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))].into()
}

async fn exchange_udp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A port of its own for each query: guessing it is what keeps forged
    // answers out.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut answer = vec![0; ANSWER_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if is_answer_to(&answer[..length], query) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn exchange_tcp(resolver: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    stream.set_nodelay(true)?;
    write_message(&mut stream, query).await?;
    let answer = read_message(&mut stream, ANSWER_MAX).await?;
    answer
        .filter(|answer| is_answer_to(answer, query))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
