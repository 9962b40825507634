//! The parts of a multipart/form-data upload.

use bytes::BytesMut;
use emberbox_api::ErrorCode;
use multer::{Field, Multipart};

use super::PATH_MAX;
use super::sink::Sink;
use super::upload::Part;
use crate::Failure;
use crate::http::body::BodyReader;

/// Reads a body of this boundary into the sink.
pub(super) async fn read(
    body: &mut BodyReader,
    boundary: String,
    mut sink: Sink,
) -> Result<(String, u64), Failure> {
    let mut parts = Multipart::new(body.stream(), boundary);
    while let Some(mut part) = parts.next_field().await.map_err(failure)? {
        match part.name() {
            Some("path") => sink.take(Part::Path(text(part).await?)).await?,
            Some("file") => {
                sink.take(Part::Begin).await?;
                while let Some(data) = part.chunk().await.map_err(failure)? {
                    sink.take(Part::Data(data)).await?;
                }
            }
            // Unknown fields are ignored everywhere; the next one skips it.
            Some(_) | None => {}
        }
    }
    sink.finish("file").await
}

async fn text(mut part: Field<'_>) -> Result<String, Failure> {
    let mut text = BytesMut::new();
    while let Some(data) = part.chunk().await.map_err(failure)? {
        text.extend_from_slice(&data);
        if text.len() > PATH_MAX {
            return Err(Failure::new(ErrorCode::InvalidPath, "path is too long"));
        }
    }
    String::from_utf8(text.into())
        .map_err(|_| Failure::new(ErrorCode::InvalidPath, "path must be UTF-8"))
}

/// A body that could not be read keeps its own reason.
fn failure(error: multer::Error) -> Failure {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(cause) => Failure::internal(cause),
        },
        other => Failure::new(ErrorCode::InvalidMultipart, other.to_string()),
    }
}
