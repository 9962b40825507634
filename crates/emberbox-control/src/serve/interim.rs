//! Signs of life on a connection whose answer takes long.
//!
//! `102 Processing` (RFC 2518, 10.1) may come any number of times before the
//! answer; clients skip it, and their read timers start again. hyper sends no
//! interim answers, so they are written below it, where it has just said that
//! it has nothing left to write: [`AsyncWrite::poll_flush`]. See
//! `docs/adr/0005-interim-responses.md`.
//!
//! Invariants: nothing is written once the work that asked is over, so never
//! inside or after an answer; nothing of hyper's comes between the parts of an
//! interim answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::Version;
use axum::http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// What is sent; HTTP/1.1 only.
const PROCESSING: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// Silence before it is sent, and between two: the official clients give up
/// after 60 s, common proxies after 30 s or 60 s.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection that can carry interim answers.
pub(super) struct InterimIo<S> {
    io: S,
    shared: Arc<Mutex<Shared>>,
}

/// Asks for interim answers on one connection. An extension of its requests.
#[derive(Clone, Default)]
pub(crate) struct Interim {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    wanted: bool,
    /// The part of an interim answer that is still to be written.
    left: &'static [u8],
    /// Wakes the connection.
    waker: Option<Waker>,
}

/// The connection of a request, if it takes interim answers.
pub(crate) struct Patience(Option<Interim>);

impl<S: Send + Sync> FromRequestParts<S> for Patience {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let interim = parts.extensions.get::<Interim>().cloned();
        // HTTP/2 has pings for this; HTTP/1.0 knows no interim answers.
        Ok(Self(interim.filter(|_| parts.version == Version::HTTP_11)))
    }
}

impl Patience {
    /// Does `work`, with signs of life while it is silent.
    pub(crate) async fn with<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(interim) = &self.0 else {
            return work.await;
        };
        let _at_the_end = Withdraw(interim);
        let mut ticks = interval_at(Instant::now() + SILENCE, SILENCE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => interim.ask(),
            }
        }
    }
}

/// Takes back what was asked for and not sent, however the work ends.
struct Withdraw<'a>(&'a Interim);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        lock(&self.0.shared).wanted = false;
    }
}

impl Interim {
    /// The connection that answers to this.
    pub(super) fn on<S>(&self, io: S) -> InterimIo<S> {
        InterimIo {
            io,
            shared: Arc::clone(&self.shared),
        }
    }

    fn ask(&self) {
        let waker = {
            let mut shared = lock(&self.shared);
            shared.wanted = true;
            shared.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no panic while the state is held")
}

impl<S: AsyncWrite + Unpin> InterimIo<S> {
    /// Writes the rest of an interim answer that was begun.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.shared);
        while !shared.left.is_empty() {
            match Pin::new(&mut self.io).poll_write(context, shared.left)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => shared.left = &shared.left[written..],
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InterimIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InterimIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.poll_rest(context)? {
            Poll::Ready(()) => Pin::new(&mut self.io).poll_write(context, data),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.poll_rest(context)? {
            Poll::Ready(()) => Pin::new(&mut self.io).poll_write_vectored(context, data),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut shared = lock(&self.shared);
            if std::mem::take(&mut shared.wanted) && shared.left.is_empty() {
                shared.left = PROCESSING;
            }
            match &mut shared.waker {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
        }
        match self.poll_rest(context)? {
            Poll::Ready(()) => Pin::new(&mut self.io).poll_flush(context),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
