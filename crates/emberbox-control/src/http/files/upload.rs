//! An upload on its way from the client into a guest, in bounded memory.
//!
//! Both formats become the same sequence of parts; [`Sink`] takes it from
//! there. What one upload holds at a time is a few frames of the connection
//! and a few decoded pieces, together under 2 MiB.

use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use emberbox_api::ErrorCode;

use super::json_parts;
use super::multipart_parts::{MultipartError, MultipartParts};
use super::sink::Sink;
use crate::Failure;
use crate::control::Control;
use crate::http::auth::Target;
use crate::http::body::BodyReader;

/// What JSON or multipart adds to a file besides base64's third: the path,
/// other fields, part headers. Bounds what is read outside the file.
pub(super) const OVERHEAD: u64 = 64 * 1024;

/// Receives one file: its path and its size.
pub(super) async fn receive(
    control: &Control,
    target: &Target,
    request: Request,
) -> Result<(String, u64), Failure> {
    let (head, body) = request.into_parts();
    let max = control.limits(&target.caller).max_upload_bytes;
    let content_type = head.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let boundary = content_type.and_then(|value| multer::parse_boundary(value).ok());
    let limit = match &boundary {
        Some(_) => max + OVERHEAD,
        None => max.div_ceil(3) * 4 + OVERHEAD,
    };
    // One byte more than a legal body may have is enough to see that a file
    // is too large, and then the sink says so; this is the second fence.
    let mut body = BodyReader::new(body, limit + OVERHEAD, ErrorCode::FileTooLarge);
    let sink = Sink::new(control.guest(&target.record)?, max);
    match boundary {
        Some(boundary) => read_multipart(&mut body, boundary, sink).await,
        None => json_parts::read(&mut body, sink).await,
    }
}

/// Reads a body of this boundary into the sink.
pub(super) async fn read_multipart(
    body: &mut BodyReader,
    boundary: String,
    mut sink: Sink,
) -> Result<(String, u64), Failure> {
    let mut parts = MultipartParts::new(body.stream(), boundary);
    while let Some(part) = parts.next().await.map_err(failure)? {
        sink.take(part).await?;
    }
    sink.finish("file").await
}

/// A body that could not be read keeps its own reason.
fn failure(error: MultipartError) -> Failure {
    let code = match error {
        MultipartError::Body(cause) => {
            return match cause.downcast::<Failure>() {
                Ok(failure) => *failure,
                Err(cause) => Failure::internal(cause),
            };
        }
        MultipartError::PathTooLong | MultipartError::PathNotUtf8 => ErrorCode::InvalidPath,
        MultipartError::Malformed(_) => ErrorCode::InvalidMultipart,
    };
    Failure::new(code, error.to_string())
}
