//! Handing a connection over to a server of the guest's own.
//!
//! ```text
//! host ◀── this connection ──▶ relay ◀── loopback ──▶ the server on `port`
//! ```
//!
//! Once the server has accepted, the connection carries its bytes and nothing
//! else: it never goes back to frames and ends with both directions.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use emberbox_guest::{FromAgent, GuestError, GuestErrorCode};
use tokio::io::{copy_bidirectional_with_sizes, join};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::connection::{Connection, Hangup};

/// How long a server of the guest may take to accept. Loopback does not lose
/// packets: only a full backlog makes it wait, and its retries come within
/// this.
const CONNECT: Duration = Duration::from_secs(5);

/// Bytes on their way in each direction: a large read of a web server, and
/// little enough for every relay the agent has room for.
const BUFFER: usize = 16 * 1024;

/// Connects to `port` and relays until both directions are closed.
pub(crate) async fn run(
    agent: &Agent,
    connection: &mut Connection,
    port: u16,
) -> Result<(), Hangup> {
    let (_place, mut server) = match open(agent, port).await {
        Ok(opened) => opened,
        Err(error) => return connection.outgoing.send(&FromAgent::Failed(error)).await,
    };
    connection.outgoing.send(&FromAgent::Done).await?;
    let (reader, writer) = connection.give_away().ok_or(Hangup::OutOfTurn)?;
    let mut host = join(reader, writer);
    // How it ended both sides have seen for themselves.
    let _ = copy_bidirectional_with_sizes(&mut host, &mut server, BUFFER, BUFFER).await;
    Err(Hangup::GivenAway)
}

async fn open<'a>(
    agent: &'a Agent,
    port: u16,
) -> Result<(tokio::sync::SemaphorePermit<'a>, TcpStream), GuestError> {
    let refuse = |text: String| GuestError::new(GuestErrorCode::ConnectionRefused, text);
    // The agent opens to nobody who comes from inside.
    if port == 0 || agent.listens_on(port) {
        return Err(refuse(format!("port {port} is not served")));
    }
    let place = agent.relays.try_acquire().map_err(|_full| {
        GuestError::new(
            GuestErrorCode::LimitReached,
            "too many connections to servers of the sandbox at once",
        )
    })?;
    let server = timeout(CONNECT, connect(port))
        .await
        .map_err(|_elapsed| refuse(format!("port {port} did not accept in time")))?
        .map_err(|error| refuse(format!("nothing accepts on port {port}: {error}")))?;
    Ok((place, server))
}

/// A server may listen on either loopback address; most do on the first.
async fn connect(port: u16) -> io::Result<TcpStream> {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let [first, second] = loopback;
    let server = match TcpStream::connect((first, port)).await {
        Ok(server) => server,
        // The first one's word counts: a guest may have no IPv6 at all.
        Err(error) => TcpStream::connect((second, port))
            .await
            .map_err(|_second| error)?,
    };
    server.set_nodelay(true)?;
    Ok(server)
}

#[cfg(test)]
mod tests;
