//! What a preview or a token asks for, checked field by field.

use emberbox_api::{CreatePreview, FieldError};
use emberbox_store::{NewPreview, Visibility};
use jiff::{SignedDuration, Timestamp};

use crate::Failure;

/// Longest name, in bytes: one line in a list.
const NAME_MAX: usize = 255;

/// Largest metadata as JSON, in bytes: a hundred previews are listed at once.
const METADATA_MAX: usize = 16 * 1024;

/// Longest life of a preview or a token that has one: a year, far beyond any
/// sandbox's.
const LIFE_MAX_SEC: i64 = 365 * 24 * 3600;

/// A whole request; every field that is wrong is named.
pub(super) fn create(body: CreatePreview, port: u16) -> Result<NewPreview, Failure> {
    let mut errors = Vec::new();
    let name = body.name.or(body.label);
    if name.as_ref().is_some_and(|name| {
        name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control)
    }) {
        errors.push(FieldError::new(
            "name",
            format!("must be 1 to {NAME_MAX} bytes without control characters"),
        ));
    }
    let visibility: Option<Result<Visibility, ()>> = body.visibility.map(|text| text.parse());
    if visibility == Some(Err(())) {
        errors.push(FieldError::new("visibility", "must be public or private"));
    }
    let metadata_len = body.metadata.as_ref().map_or(0, |metadata| {
        serde_json::to_string(metadata).map_or(usize::MAX, |json| json.len())
    });
    if metadata_len > METADATA_MAX {
        errors.push(FieldError::new(
            "metadata",
            format!("must be at most {METADATA_MAX} bytes of JSON"),
        ));
    }
    let expires_at = match until("ttl_seconds", body.ttl_seconds) {
        Ok(end) => end,
        Err(error) => {
            errors.push(error);
            None
        }
    };
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    Ok(NewPreview {
        port,
        visibility: visibility.and_then(Result::ok),
        name,
        metadata: body.metadata,
        expires_at,
    })
}

/// When something that lives so long ends.
pub(super) fn until(field: &str, seconds: Option<i64>) -> Result<Option<Timestamp>, FieldError> {
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=LIFE_MAX_SEC) => {
            Ok(Some(Timestamp::now() + SignedDuration::from_secs(seconds)))
        }
        Some(_) => Err(FieldError::new(
            field,
            format!("must be between 1 and {LIFE_MAX_SEC}"),
        )),
    }
}

/// Only one scope is known, so another would promise what nobody checks.
pub(super) fn scope(scope: Option<&str>) -> Result<(), FieldError> {
    match scope {
        None | Some(super::share::SCOPE) => Ok(()),
        Some(_) => Err(FieldError::new("scope", "must be read")),
    }
}
