//! Connections that become something else: WebSockets above all.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emberbox_api::ErrorCode;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;

use super::heard::{Heard, Said};
use crate::Failure;

/// What a client wants its connection to become.
pub(super) enum Upgrade {
    /// Nothing.
    No,
    /// Another protocol on an HTTP/1.1 connection.
    Http1 {
        protocol: HeaderValue,
        client: OnUpgrade,
    },
    /// A WebSocket on one stream of an HTTP/2 connection (RFC 8441).
    Http2 { client: OnUpgrade },
}

impl Upgrade {
    /// What this request asks for. An upgrade to HTTP/2 is none: its client
    /// speaks HTTP/1.1 as well, and the guest is spoken to in that.
    pub(super) fn asked(request: &mut Request) -> Result<Self, Failure> {
        if request.method() == Method::CONNECT {
            let protocol = request.extensions().get::<Protocol>();
            if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
                return Err(Failure::new(
                    ErrorCode::InvalidRequest,
                    "a preview is no proxy: CONNECT is only for WebSockets",
                ));
            }
            let client = hyper::upgrade::on(request);
            return Ok(Self::Http2 { client });
        }
        if request.version() != Version::HTTP_11 || !wants_upgrade(request.headers()) {
            return Ok(Self::No);
        }
        match request.headers().get(UPGRADE).cloned() {
            Some(protocol) if !protocol.as_bytes().eq_ignore_ascii_case(b"h2c") => {
                Ok(Self::Http1 {
                    protocol,
                    client: hyper::upgrade::on(request),
                })
            }
            Some(_) | None => Ok(Self::No),
        }
    }

    /// Asks the guest for the same.
    pub(super) fn ask(&self, parts: &mut request::Parts) {
        let protocol = match self {
            Self::No => return,
            Self::Http1 { protocol, .. } => protocol.clone(),
            Self::Http2 { .. } => {
                parts.method = Method::GET;
                let key = STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
                if let Ok(key) = HeaderValue::from_str(&key) {
                    parts.headers.insert(SEC_WEBSOCKET_KEY, key);
                }
                HeaderValue::from_static("websocket")
            }
        };
        parts.headers.insert(UPGRADE, protocol);
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(CONNECTION, upgrade);
    }

    /// Joins both sides once each has switched; `response` is the guest's 101
    /// without its connection fields. They part when neither says anything for
    /// `idle`.
    pub(super) fn join(
        self,
        mut response: Response,
        closing: &CancellationToken,
        idle: Duration,
    ) -> Result<Response, Failure> {
        let guest = hyper::upgrade::on(&mut response);
        let headers = std::mem::take(response.headers_mut());
        let mut answer = Response::new(Body::empty());
        *answer.headers_mut() = headers;
        let client = match self {
            Self::No => {
                return Err(Failure::new(
                    ErrorCode::PreviewUnreachable,
                    "the server in the sandbox switched protocols unasked",
                ));
            }
            Self::Http1 { protocol, client } => {
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let upgrade = HeaderValue::from_static("upgrade");
                answer.headers_mut().insert(CONNECTION, upgrade);
                answer.headers_mut().insert(UPGRADE, protocol);
                client
            }
            Self::Http2 { client } => {
                // What the key of ours was answered with.
                answer.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
                client
            }
        };
        tokio::spawn(tunnel(client, guest, closing.clone(), idle));
        Ok(answer)
    }
}

/// Carries bytes both ways until both sides are done, one breaks, neither says
/// anything any more, the VM ends or the server does.
async fn tunnel(client: OnUpgrade, guest: OnUpgrade, closing: CancellationToken, idle: Duration) {
    let joined = async {
        let (client, guest) = tokio::try_join!(client, guest)?;
        let said = Said::default();
        let mut client = Heard::new(TokioIo::new(client), &said);
        let mut guest = Heard::new(TokioIo::new(guest), &said);
        tokio::select! {
            // How it ends is between the two ends.
            _ended = copy_bidirectional(&mut client, &mut guest) => {}
            () = said.nothing_for(idle) => {
                tracing::debug!("an upgraded connection was idle for too long");
            }
        }
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        joined = joined => if let Err(error) = joined {
            tracing::debug!(%error, "an upgrade did not come about");
        },
        () = closing.cancelled() => {}
    }
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}
