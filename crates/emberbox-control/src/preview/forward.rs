//! One request into a guest and its answer back.

use std::error::Error;
use std::io::{
    self,
    ErrorKind::{BrokenPipe, ConnectionReset},
};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use axum::http::{HeaderValue, Method, StatusCode, Uri, Version, request, uri};
use axum::response::Response;
use bytes::Bytes;
use emberbox_api::ErrorCode;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper_util::client::legacy::{Client, Error as ClientError, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep_until};

use super::connection::{Connector, Destination, DialError, GuestStream};
use super::header::{self, Origin};
use super::upgrade::Upgrade;
use crate::Failure;
use crate::control::Control;
use crate::settings::Scheme;

/// How long a connection is kept for the next request: under the 5 s after
/// which Node closes its side, so that few requests meet a closed one.
const KEEP: Duration = Duration::from_secs(4);

/// Idle connections kept per port: what ten browsers open. Fewer would have
/// connections made anew under load, each a round trip to the guest.
const IDLE_CONNECTIONS: usize = 64;

/// Largest head of an answer, in bytes: twice what browsers and other proxies
/// take.
const HEAD_MAX: usize = 64 * 1024;

/// Most fields in the head of an answer.
const FIELDS_MAX: usize = 128;

/// Sends requests into guests.
pub(crate) struct Forwarder {
    control: Arc<Control>,
    connector: Connector,
    /// Keeps its connections for the next request.
    kept: Client<Connector, Watched>,
    /// Makes a connection for each request.
    fresh: Client<Connector, Watched>,
}

/// What the proxy knows of a request besides itself.
pub(super) struct Exchange {
    pub(super) to: Destination,
    pub(super) host: HeaderValue,
    pub(super) address: Option<IpAddr>,
    pub(super) scheme: Scheme,
}

impl Forwarder {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        let connector = Connector::new(Arc::clone(&control));
        let client = |idle| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEEP)
                .pool_max_idle_per_host(idle)
                .http1_max_buf_size(HEAD_MAX)
                .http1_max_headers(FIELDS_MAX)
                .set_host(false)
                .build(connector.clone())
        };
        Self {
            control,
            kept: client(IDLE_CONNECTIONS),
            fresh: client(0),
            connector,
        }
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// A connection of its own, only to see whether something listens.
    pub(super) async fn probe(&self, to: &Destination) -> Result<GuestStream, DialError> {
        self.connector.connect(to).await
    }

    /// Sends the request and returns the answer, whose body is still coming.
    /// Dropping either ends the exchange in the guest.
    pub(super) async fn send(
        &self,
        mut request: Request,
        exchange: &Exchange,
    ) -> Result<Response, Failure> {
        let upgrade = Upgrade::asked(&mut request)?;
        let (mut parts, body) = request.into_parts();
        header::clean_request(
            &mut parts.headers,
            &Origin {
                address: exchange.address,
                host: &exchange.host,
                scheme: exchange.scheme,
            },
        );
        upgrade.ask(&mut parts);
        let answered = match repeatable(&parts, &body, &upgrade) {
            // A guest that was busy may close a kept connection while the
            // request is on its way, having read none of it.
            Repeatable::Yes => match self.attempt(&self.kept, &parts, exchange, body).await {
                Err(Attempt::BrokeOff(_)) => {
                    let nothing = Body::empty();
                    self.attempt(&self.fresh, &parts, exchange, nothing).await
                }
                answered => answered,
            },
            // What must not be done twice is never sent into a closing one.
            Repeatable::No => self.attempt(&self.fresh, &parts, exchange, body).await,
        };
        let mut response = answered?;
        header::clean_response(response.headers_mut());
        let response = response.map(|body| Body::new(body.map_err(axum::Error::new)));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let idle = self.control.settings().preview.tunnel_idle_sec;
            let idle = Duration::from_secs(idle.into());
            return upgrade.join(response, self.control.closing(), idle);
        }
        Ok(response)
    }

    async fn attempt(
        &self,
        client: &Client<Connector, Watched>,
        parts: &request::Parts,
        exchange: &Exchange,
        body: Body,
    ) -> Result<hyper::Response<hyper::body::Incoming>, Attempt> {
        let (body, progress) = Watched::new(body);
        let request = onward(parts, &exchange.to, body)?;
        let patience = self.control.settings().preview.head_timeout_sec;
        let patience = Duration::from_secs(patience.into());
        head(client.request(request), &progress, patience).await
    }
}

/// Whether a request may be sent again when nobody knows if it arrived.
enum Repeatable {
    Yes,
    No,
}

/// By RFC 9110, 9.2.2; with a body it would have to be kept.
fn repeatable(parts: &request::Parts, body: &Body, upgrade: &Upgrade) -> Repeatable {
    let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if safe && body.is_end_stream() && matches!(upgrade, Upgrade::No) {
        Repeatable::Yes
    } else {
        Repeatable::No
    }
}

/// Why there is no answer.
enum Attempt {
    /// The connection ended before anything of it came.
    BrokeOff(ClientError),
    Failed(Failure),
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ClientError> for Attempt {
    fn from(error: ClientError) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(found) = cause {
            let ended = found
                .downcast_ref::<hyper::Error>()
                .is_some_and(|error| error.is_incomplete_message() || error.is_closed());
            let reset = found
                .downcast_ref::<io::Error>()
                .is_some_and(|error| matches!(error.kind(), ConnectionReset | BrokenPipe));
            if ended || reset {
                return Self::BrokeOff(error);
            }
            cause = found.source();
        }
        Self::Failed(failed(error))
    }
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::BrokeOff(error) => failed(error),
            Attempt::Failed(failure) => failure,
        }
    }
}

/// The request as the guest gets it: HTTP/1.1, whatever the client speaks.
fn onward(
    parts: &request::Parts,
    to: &Destination,
    body: Watched,
) -> Result<hyper::Request<Watched>, Failure> {
    let mut target = uri::Parts::default();
    target.scheme = Some(UriScheme::HTTP);
    target.authority =
        Some(Authority::try_from(to.authority()).expect("an id and a port are an authority"));
    let path = parts.uri.path_and_query().cloned();
    target.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    let uri = Uri::from_parts(target).map_err(|error| {
        Failure::because(ErrorCode::InvalidRequest, "the request has no path", error)
    })?;
    let mut request = hyper::Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = parts.headers.clone();
    Ok(request)
}

/// Waits for the head of the answer, as long as something of the request still
/// goes through and `patience` after that.
async fn head(
    mut sent: ResponseFuture,
    progress: &Progress,
    patience: Duration,
) -> Result<hyper::Response<hyper::body::Incoming>, Attempt> {
    loop {
        let deadline = progress.last() + patience;
        tokio::select! {
            answered = &mut sent => return Ok(answered?),
            () = sleep_until(deadline) => if progress.last() + patience <= Instant::now() {
                let late = "the server in the sandbox did not answer in time";
                return Err(Failure::new(ErrorCode::PreviewTimeout, late).into());
            }
        }
    }
}

fn failed(error: ClientError) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(found) = cause {
        if let Some(dial) = found.downcast_ref::<DialError>() {
            let refused = unreachable(dial);
            return Failure::because(refused.code, refused.message, error);
        }
        cause = found.source();
    }
    Failure::because(
        ErrorCode::PreviewUnreachable,
        "the server in the sandbox broke off before it answered",
        error,
    )
}

/// What a missing connection means to who asked.
pub(super) fn unreachable(error: &DialError) -> Failure {
    let (code, message) = match error {
        DialError::Refused => (
            ErrorCode::PortNotServed,
            "nothing listens on this port of the sandbox yet",
        ),
        DialError::Unreachable(_) => (
            ErrorCode::PreviewUnreachable,
            "this port of the sandbox cannot be reached",
        ),
        DialError::Ended => (ErrorCode::SandboxNotRunning, "the sandbox is not running"),
        DialError::Busy => (
            ErrorCode::PreviewBusy,
            "the sandbox has too many open preview connections",
        ),
    };
    Failure::new(code, message)
}

/// When something of a request last went through.
#[derive(Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn last(&self) -> Instant {
        *self.0.lock().expect("no panic while it is held")
    }

    fn touch(&self) {
        *self.0.lock().expect("no panic while it is held") = Instant::now();
    }
}

/// A client's body that notes its progress.
pub(super) struct Watched {
    body: Body,
    progress: Progress,
}

impl Watched {
    fn new(body: Body) -> (Self, Progress) {
        let progress = Progress(Arc::new(Mutex::new(Instant::now())));
        let watched = Self {
            body,
            progress: progress.clone(),
        };
        (watched, progress)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.progress.touch();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
