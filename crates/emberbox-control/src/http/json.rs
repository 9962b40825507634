//! JSON in, with errors that name the field.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Query, Request};
use axum::http::request::Parts;
use emberbox_api::ErrorCode;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::body::BodyReader;
use crate::Failure;
use crate::control::Control;

/// Largest JSON body but for uploads: a command of 128 KiB and an environment
/// of 64 KiB, both escaped at their worst, fit.
pub(super) const JSON_MAX: u64 = 1024 * 1024;

/// A JSON object as `T`. No body at all is an empty object: several clients
/// send none where every field is optional.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Control>> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _: &Arc<Control>) -> Result<Self, Failure> {
        read(request, JSON_MAX).await.map(Self)
    }
}

/// Largest body of a route that takes many files at once: a generated app with
/// its pictures. Held in memory while it is written; what is larger goes
/// through the upload, which streams.
const BULK_MAX: u64 = 32 * 1024 * 1024;

/// A large JSON object as `T`.
pub(super) struct BulkJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Control>> for BulkJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _: &Arc<Control>) -> Result<Self, Failure> {
        read(request, BULK_MAX).await.map(Self)
    }
}

/// The query string as `T`.
pub(super) struct QueryString<T>(pub(super) T);

impl<T: DeserializeOwned> axum::extract::FromRequestParts<Arc<Control>> for QueryString<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Control>) -> Result<Self, Failure> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|error| Failure::invalid_field("query", error.body_text()))
    }
}

/// The fields of `T` in an object that holds those of others as well.
pub(super) fn fields<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Failure> {
    let value = Value::Object(object.clone());
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body" } else { &path };
        Failure::invalid_field(field, error.inner().to_string())
    })
}

async fn read<T: DeserializeOwned>(request: Request<Body>, limit: u64) -> Result<T, Failure> {
    let reader = BodyReader::new(request.into_body(), limit, ErrorCode::BodyTooLarge);
    parse(&reader.whole().await?)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let text = bytes.trim_ascii();
    let text = if text.is_empty() { b"{}" } else { text };
    if !text.starts_with(b"{") {
        return Err(match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_something_else) => Failure::invalid_field("body", "must be a JSON object"),
            Err(error) => malformed(&error),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => {
                let field = if path == "." { "body" } else { &path };
                Failure::invalid_field(field, without_position(&inner))
            }
            Category::Syntax | Category::Eof | Category::Io => malformed(&inner),
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Failure {
    Failure::new(
        ErrorCode::InvalidJson,
        format!("the request body is not JSON: {error}"),
    )
}

/// The field is named; the line and column of the body help nobody then.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(position) => text[..position].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests;
