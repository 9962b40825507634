//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tower::util::MapRequest;

use crate::tls::Tls;

mod interim;

use interim::Interim;
pub(crate) use interim::Patience;

/// How long a connection may take to send the head of its next request. Also
/// how long an idle one is kept: the official clients keep theirs 60 s and
/// must not find it closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Silence after which an HTTP/2 client is pinged: its read timer starts again,
/// and one that is gone is noticed. The heartbeat of the event streams.
const PING: Duration = Duration::from_secs(15);

/// How long open requests may go on after a shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take: a few round trips on a bad line.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections at the same time; each costs a descriptor and some 10 KB.
const CONNECTIONS: usize = 4096;

/// Requests at the same time over one HTTP/2 connection: a burst of a thousand
/// creates by one client needs no second one.
const STREAMS: u32 = 1024;

/// Pause after a failed accept, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Whether this server ended its TLS.
    pub(crate) tls: bool,
}

/// Serves until `shutdown` resolves, then lets open requests end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    run(listener, None, router, shutdown).await;
}

/// Serves over TLS until `shutdown` resolves, then lets open requests end.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    run(listener, Some(tls), router, shutdown).await;
}

async fn run(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_concurrent_streams(STREAMS)
        // WebSockets over HTTP/2 (RFC 8441).
        .enable_connect_protocol();
    let builder = Arc::new(builder);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, address, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = Peer {
            address,
            tls: tls.is_some(),
        };
        let (builder, tls, router) = (Arc::clone(&builder), tls.clone(), router.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            match tls {
                None => converse(&builder, stream, peer, router, watcher).await,
                // A client that breaks off, or speaks no TLS, is no event of
                // ours.
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.0.accept(stream)).await {
                        converse(&builder, stream, peer, router, watcher).await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests still open at shutdown are cut off");
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    builder: &Builder<TokioExecutor>,
    stream: S,
    peer: Peer,
    router: Router,
    watcher: Watcher,
) {
    let interim = Interim::default();
    let stream = TokioIo::new(interim.on(stream));
    let service = MapRequest::new(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(interim.clone());
        request
    });
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection_with_upgrades(stream, service);
    let _broken = watcher.watch(connection.into_owned()).await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, permit))
}
