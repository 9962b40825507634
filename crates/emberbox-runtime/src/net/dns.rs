//! A DNS relay for one guest: listens on the gateway's address inside the
//! slot, asks the host's own resolvers from the host's namespace, and passes
//! the answer on unread.
//!
//! Every query has a deadline and every slot a limit of queries under way: a
//! hostile guest costs a bounded number of sockets and bytes. A query nobody
//! answers is answered with SERVFAIL, so that the guest need not wait for its
//! own timeout.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::GATEWAY_ADDRESS;

mod upstream;

pub(super) use upstream::Upstreams;

/// Where guests ask.
pub(super) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(GATEWAY_ADDRESS, 53);

/// UDP queries one guest may have under way; more are dropped, as a busy
/// resolver does. `npm install` opens about twenty.
const UDP_QUERIES: usize = 64;

/// TCP connections one guest may have with its relay. Only answers that do
/// not fit into a datagram come this way.
const TCP_CONNECTIONS: usize = 8;

/// Connections that may wait to be accepted.
const TCP_BACKLOG: u32 = 16;

/// The longest query relayed, in bytes: what EDNS clients announce.
const QUERY_MAX: usize = 4096;

/// The length of a DNS header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// How long a guest's TCP connection may say nothing (RFC 7766 asks for "a few
/// seconds").
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Rest after a failed receive or accept, for example without descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The relay's sockets, inside a slot and not served yet.
pub(super) struct RelaySockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl RelaySockets {
    /// Takes bound, non-blocking sockets over.
    pub(super) fn new(udp: std::net::UdpSocket, tcp: TcpSocket) -> io::Result<Self> {
        let udp = UdpSocket::from_std(udp)?;
        let tcp = tcp.listen(TCP_BACKLOG)?;
        Ok(Self { udp, tcp })
    }
}

/// A relay that serves until it is dropped.
pub(super) struct Relay {
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(super) fn start(sockets: RelaySockets, upstreams: Arc<Upstreams>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(sockets.udp), Arc::clone(&upstreams)));
        tasks.spawn(serve_tcp(sockets.tcp, upstreams));
        Self { _tasks: tasks }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, upstreams: Arc<Upstreams>) {
    let permits = Arc::new(Semaphore::new(UDP_QUERIES));
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        let (length, guest) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "cannot receive a DNS query");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        while queries.try_join_next().is_some() {}
        let query = &buffer[..length];
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        if !is_query(query) {
            continue;
        }
        let query = query.to_vec();
        let socket = Arc::clone(&socket);
        let upstreams = Arc::clone(&upstreams);
        queries.spawn(async move {
            let answer = upstreams.ask_udp(&query).await;
            let answer = answer.unwrap_or_else(|| server_failure(&query));
            // The guest may be gone; it will ask again if it is not.
            let _sent = socket.send_to(&answer, guest).await;
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, upstreams: Arc<Upstreams>) {
    let permits = Arc::new(Semaphore::new(TCP_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _guest)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a DNS connection");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let upstreams = Arc::clone(&upstreams);
        connections.spawn(async move {
            if let Err(error) = serve_connection(stream, &upstreams).await {
                tracing::trace!(%error, "a DNS connection broke off");
            }
            drop(permit);
        });
    }
}

/// Answers one query after the other until the guest closes or falls silent.
async fn serve_connection(mut stream: TcpStream, upstreams: &Upstreams) -> io::Result<()> {
    loop {
        let Ok(query) = timeout(TCP_IDLE, read_message(&mut stream, QUERY_MAX)).await else {
            return Ok(());
        };
        let Some(query) = query?.filter(|query| is_query(query)) else {
            return Ok(());
        };
        let answer = upstreams.ask_tcp(&query).await;
        let answer = answer.unwrap_or_else(|| server_failure(&query));
        timeout(TCP_IDLE, write_message(&mut stream, &answer)).await??;
    }
}

/// One length-prefixed message (RFC 1035, 4.2.2); `None` at the end of the
/// stream.
async fn read_message(stream: &mut TcpStream, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_too_long| io::Error::from(io::ErrorKind::InvalidData))?;
    // One write: a length in a packet of its own would wait for its ACK.
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

const RESPONSE_BIT: u8 = 0x80;

fn is_query(message: &[u8]) -> bool {
    message.len() >= HEADER && message[2] & RESPONSE_BIT == 0
}

fn is_answer_to(message: &[u8], query: &[u8]) -> bool {
    message.len() >= HEADER && message[2] & RESPONSE_BIT != 0 && message[..2] == query[..2]
}

/// The query itself, turned into an answer with the code SERVFAIL.
fn server_failure(query: &[u8]) -> Vec<u8> {
    const RECURSION_AVAILABLE: u8 = 0x80;
    const SERVFAIL: u8 = 2;
    let mut answer = query.to_vec();
    answer[2] |= RESPONSE_BIT;
    answer[3] = (answer[3] & 0xf0) | RECURSION_AVAILABLE | SERVFAIL;
    answer
}

#[cfg(test)]
mod tests;
