//! Firecracker's HTTP API over its Unix socket.
//!
//! One connection per call: they are few, and a call that was given up leaves
//! nothing behind that the next one could read.
//!
//! Invariant: the socket lies in a directory that a VMM which was taken over
//! can write, so what lies there in its name is looked at before it is used.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

pub(super) mod call;

use call::Call;

/// The socket's name in the VMM's root.
pub(super) const SOCKET: &str = "api.sock";

/// How long one call may take. A loaded machine needs seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// How long moving a state may take: all of a guest's memory to a slow disk.
const SNAPSHOT: Duration = Duration::from_secs(300);

/// Longest answer that is read; the longest real one has some hundred bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The VMM refused it.
    #[error("{0}")]
    Refused(String),
    /// There is no answer that could be read.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// It did not come in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

impl ApiError {
    fn none(error: impl std::fmt::Display) -> Self {
        Self::NoAnswer(error.to_string())
    }
}

/// What a VMM says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Instance {
    pub(super) state: InstanceState,
    pub(super) vmm_version: String,
}

/// What its guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum InstanceState {
    #[serde(rename = "Not started")]
    NotStarted,
    Running,
    Paused,
}

/// What a refusal says.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

/// One VMM's API.
#[derive(Debug)]
pub(super) struct Api {
    /// The directory that is the VMM's root.
    root: OwnedFd,
}

impl Api {
    /// The API of the VMM whose root is this directory.
    pub(super) fn in_root(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Whether the VMM listens already.
    pub(super) async fn listens(&self) -> bool {
        self.connect().await.is_ok()
    }

    /// What the VMM says about itself.
    pub(super) async fn instance(&self) -> Result<Instance, ApiError> {
        let answer = self.within(ANSWER, Request::get("/"), Bytes::new()).await?;
        serde_json::from_slice(&answer).map_err(ApiError::none)
    }

    /// Makes a call. Given up half-way, the VMM may still carry it out.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<(), ApiError> {
        let patience = if call.moves_memory() {
            SNAPSHOT
        } else {
            ANSWER
        };
        let body = call.body().map_err(ApiError::none)?;
        let request = Request::builder()
            .method(call.method())
            .uri(call.path())
            .header(CONTENT_TYPE, "application/json");
        self.within(patience, request, body.into()).await.map(drop)
    }

    async fn within(
        &self,
        patience: Duration,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        timeout(patience, self.exchange(request, body))
            .await
            .unwrap_or(Err(ApiError::Late(patience)))
    }

    async fn exchange(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        let request = request
            .header(HOST, "localhost")
            .body(Full::new(body))
            .map_err(ApiError::none)?;
        let stream = self.connect().await.map_err(ApiError::none)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ApiError::none)?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(ApiError::none)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER);
            let body = body.collect().await.map_err(ApiError::none)?;
            Ok((status, body.to_bytes()))
        };
        let (status, body) = tokio::select! {
            answer = answer => answer?,
            never = drive(connection) => match never {},
        };
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(body),
            status => Err(ApiError::Refused(fault(status, &body))),
        }
    }

    /// Connects to the socket and to nothing that only has its name.
    async fn connect(&self) -> io::Result<UnixStream> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = openat(self.root.as_fd(), SOCKET, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
            return Err(io::Error::other("its API socket is none"));
        }
        // The name of an open file fits an address however deep it lies.
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
    }
}

/// Does a connection's work. How it ends shows in the answer, which may be
/// there although the connection is not any more.
async fn drive<E>(connection: impl Future<Output = Result<(), E>>) -> Infallible {
    let _ = connection.await;
    std::future::pending().await
}

fn fault(status: StatusCode, body: &[u8]) -> String {
    /// Enough of an answer that nobody expected.
    const EXCERPT: usize = 300;
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => fault.fault_message,
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let text: String = text.chars().take(EXCERPT).collect();
            format!("{status} {text}").trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
