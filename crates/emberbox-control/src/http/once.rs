//! Requests that may carry an `Idempotency-Key`.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use emberbox_api::ErrorCode;
use emberbox_core::TenantId;
use emberbox_store::{Answer, Bounds, OnceRequest, RequestKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use super::body::BodyReader;
use super::json::{self, JSON_MAX};
use crate::Failure;
use crate::control::Control;
use crate::serve::Patience;

/// Longest key, in bytes: what other systems' identifiers take.
const KEY_MAX: usize = 255;

/// The header, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct IdempotencyKey {
    /// The same key with the same body within 24 h is the same request: it
    /// happens once, and its repeats get its answer
    #[param(rename = "Idempotency-Key", max_length = 255)]
    idempotency_key: Option<String>,
}

/// The key of a request, if it has one. Reads the body, and only compares it.
pub(super) struct Once {
    asked: Option<Asked>,
    patience: Patience,
}

/// A JSON body and the key it may come with.
pub(super) struct Keyed<T> {
    pub(super) body: T,
    pub(super) once: Once,
}

struct Asked {
    scope: String,
    key: String,
    body_sha256: [u8; 32],
}

/// What is known of a request before it is worked on.
pub(super) struct Before {
    /// What records what it makes.
    pub(super) once: Option<OnceRequest>,
    /// What it made before the server ended over it.
    pub(super) made: Option<String>,
}

impl FromRequest<Arc<Control>> for Once {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, control: &Arc<Control>) -> Result<Self, Failure> {
        if request.headers().get("idempotency-key").is_some() {
            return Ok(read(request, control).await?.0);
        }
        let (mut parts, _unread) = request.into_parts();
        let Ok(patience) = Patience::from_request_parts(&mut parts, control).await;
        Ok(Self {
            asked: None,
            patience,
        })
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Control>> for Keyed<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, control: &Arc<Control>) -> Result<Self, Failure> {
        let (once, bytes) = read(request, control).await?;
        let body = json::parse(&bytes)?;
        Ok(Self { body, once })
    }
}

async fn read(request: Request<Body>, control: &Arc<Control>) -> Result<(Once, Bytes), Failure> {
    let (mut parts, body) = request.into_parts();
    let key = parse_key(&parts.headers)?;
    let Ok(patience) = Patience::from_request_parts(&mut parts, control).await;
    let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(&mut parts, control).await;
    let body = BodyReader::new(body, JSON_MAX, ErrorCode::BodyTooLarge);
    let bytes = body.whole().await?;
    let asked = key.map(|key| Asked {
        scope: scope(&parts, uri.path()),
        key,
        body_sha256: Sha256::digest(&bytes).into(),
    });
    Ok((Once { asked, patience }, bytes))
}

/// What a key belongs to beside its tenant: method and path, and what the
/// caller sees, so that nobody is told what another's request made.
fn scope(parts: &Parts, path: &str) -> String {
    let scope = format!("{} {path}", parts.method);
    match parts.extensions.get::<Bounds>() {
        Some(bounds) if !bounds.are_open() => format!("{scope} within {bounds}"),
        Some(_) | None => scope,
    }
}

impl Once {
    /// The request, if it has a key.
    pub(super) fn of(&self, tenant: &TenantId) -> Option<OnceRequest> {
        let asked = self.asked.as_ref()?;
        Some(OnceRequest {
            key: RequestKey {
                tenant: tenant.clone(),
                scope: asked.scope.clone(),
                key: asked.key.clone(),
            },
            body_sha256: asked.body_sha256,
        })
    }

    /// Answers with what `work` comes to. With a key it goes on without the
    /// client, and happens once.
    pub(super) async fn answer<T, W>(
        self,
        control: &Arc<Control>,
        tenant: &TenantId,
        work: impl FnOnce(Before) -> W + Send + 'static,
    ) -> Result<Response, Failure>
    where
        T: Serialize + 'static,
        W: Future<Output = Result<(StatusCode, Json<T>), Failure>> + Send + 'static,
    {
        let Some(request) = self.of(tenant) else {
            let before = Before {
                once: None,
                made: None,
            };
            let answer = self.patience.with(Box::pin(work(before))).await?;
            return Ok(answer.into_response());
        };
        let once = Some(request.clone());
        let answering = control.answer_once(request, async move |made| {
            let (status, Json(body)) = Box::pin(work(Before { once, made })).await?;
            let body = serde_json::to_vec(&body).map_err(Failure::internal)?;
            Ok(Answer {
                status: status.as_u16(),
                body: Some(body),
            })
        });
        let answer = self.patience.with(Box::pin(answering)).await?;
        let body = answer.body.unwrap_or_default();
        let status = StatusCode::from_u16(answer.status).map_err(Failure::internal)?;
        if !status.is_success() {
            return Err(Failure::of_answer(&body));
        }
        Ok((status, [(CONTENT_TYPE, "application/json")], body).into_response())
    }
}

fn parse_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(header) = keys.next() else {
        return Ok(None);
    };
    let key = header.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > KEY_MAX || keys.next().is_some() {
        return Err(Failure::invalid_field(
            "Idempotency-Key",
            format!("must be one of 1 to {KEY_MAX} printable ASCII characters"),
        ));
    }
    Ok(Some(key.to_owned()))
}

#[cfg(test)]
mod tests;
