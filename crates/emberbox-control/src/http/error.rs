//! Failures as answers.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use emberbox_api::{ErrorBody, ErrorCode, ErrorResponse};

use super::request;
use crate::Failure;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status())
            .expect("the catalogue holds only valid statuses");
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = %self.code, error = self.chain(), "request failed");
        } else if status.is_server_error() {
            tracing::warn!(code = %self.code, error = self.chain(), "request failed");
        }
        let retry_ms = self
            .retry_after
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        let seconds = retry_ms.map(|ms| ms.div_ceil(1000));
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        let body = ErrorResponse {
            error: ErrorBody {
                code: self.code.as_str().to_owned(),
                message: self.message,
                details: self.details,
                request_id: request::id(),
                retryable: retry_ms.map(|_| true),
                retry_after_ms: retry_ms,
                retry_after: seconds.filter(|_| limited),
            },
        };
        let mut response = (status, Json(body)).into_response();
        if let Some(seconds) = seconds
            && (status == StatusCode::SERVICE_UNAVAILABLE
                || limited
                || self.code == ErrorCode::SandboxStarting)
        {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // The rest of the body may still come: nothing else can be said on
            // this connection (RFC 9110, 15.5.9).
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The answer of a handler that panicked.
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Failure::because(
        ErrorCode::Internal,
        "internal error",
        format!("panic: {text}"),
    )
    .into_response()
}
