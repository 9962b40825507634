//! Connections into guests: dialled, counted, and ended with their VM.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Uri;
use emberbox_core::VmId;
use emberbox_guest::GuestErrorCode;
use emberbox_guest::client::{ClientError, GuestClient};
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use crate::control::Control;

/// How long a guest's kernel may take to accept a connection. It answers in
/// microseconds; a guest in software emulation on a loaded machine in seconds.
const CONNECT: Duration = Duration::from_secs(10);

/// One port of one life of a VM: what connections are kept by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) vm: VmId,
    pub(super) port: u16,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// Nothing listens on the port.
    #[error("nothing listens on the port")]
    Refused,
    /// The VM does not run.
    #[error("the VM is not running")]
    Ended,
    /// It has as many connections as it may.
    #[error("the sandbox has too many connections")]
    Busy,
    /// The guest accepted nothing.
    #[error("the guest cannot be reached")]
    Unreachable(#[source] io::Error),
}

/// Opens connections for the client's pool.
#[derive(Clone)]
pub(super) struct Connector {
    control: Arc<Control>,
    table: Arc<Table>,
}

/// How many connections each VM has.
#[derive(Default)]
struct Table {
    open: Mutex<HashMap<VmId, usize>>,
}

/// One connection of a VM, while it is open.
struct Counted {
    table: Arc<Table>,
    vm: VmId,
}

impl Destination {
    /// The address the pool keeps its connections by; it never leaves this
    /// process.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.vm, self.port)
    }

    fn read(uri: &Uri) -> Option<Self> {
        Some(Self {
            vm: uri.host()?.parse().ok()?,
            port: uri.port_u16()?,
        })
    }
}

impl Connector {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            table: Arc::default(),
        }
    }

    /// A connection to what listens there now.
    pub(super) async fn connect(&self, to: &Destination) -> Result<GuestStream, DialError> {
        if to.port == emberbox_guest::PORT {
            return Err(DialError::Refused);
        }
        let counted = self
            .table
            .count(&to.vm, self.control.settings().preview.max_connections)
            .ok_or(DialError::Busy)?;
        let guest = self.control.compute().guest(&to.vm);
        let guest = guest.map_err(|_ended| DialError::Ended)?;
        let dialled = timeout(CONNECT, dial(&self.control, &guest, to)).await;
        let stream = dialled
            .map_err(|_elapsed| DialError::Unreachable(io::ErrorKind::TimedOut.into()))??;
        Ok(GuestStream {
            stream,
            ended: Some(Box::pin(async move { guest.ended().await })),
            _counted: counted,
        })
    }
}

/// The guest's own address first, where servers bound to every address answer;
/// then its loopback, through the agent.
async fn dial(
    control: &Control,
    guest: &GuestClient,
    to: &Destination,
) -> Result<TcpStream, DialError> {
    match control.compute().dial(&to.vm, to.port).await {
        Ok(stream) => return Ok(stream),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => {}
            io::ErrorKind::NotConnected => return Err(DialError::Ended),
            _ => return Err(DialError::Unreachable(error)),
        },
    }
    guest.connect(to.port).await.map_err(|error| match error {
        ClientError::Guest(error) if error.code == GuestErrorCode::LimitReached => DialError::Busy,
        ClientError::Guest(_) => DialError::Refused,
        ClientError::Ended => DialError::Ended,
        error => DialError::Unreachable(io::Error::other(error)),
    })
}

impl Service<Uri> for Connector {
    type Response = TokioIo<GuestStream>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let to = Destination::read(&uri).ok_or(DialError::Ended)?;
            connector.connect(&to).await.map(TokioIo::new)
        })
    }
}

impl Table {
    fn count(self: &Arc<Self>, vm: &VmId, max: usize) -> Option<Counted> {
        let mut open = self.lock();
        let count = open.entry(vm.clone()).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted {
            table: Arc::clone(self),
            vm: vm.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VmId, usize>> {
        self.open.lock().expect("no panic while it is held")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.table.lock();
        if let Some(count) = open.get_mut(&self.vm) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.vm);
            }
        }
    }
}

/// A connection that breaks when its VM ends: a guest that is gone closes
/// nothing itself.
pub(super) struct GuestStream {
    stream: TcpStream,
    /// Resolves when the VM has ended; none once it has.
    ended: Option<BoxFuture<'static, ()>>,
    _counted: Counted,
}

impl GuestStream {
    /// Fails once the VM has ended, and wakes the task when it does.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let ended = match &mut self.ended {
            Some(ended) => ended.as_mut().poll(cx).is_ready(),
            None => true,
        };
        if ended {
            self.ended = None;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl Connection for GuestStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
