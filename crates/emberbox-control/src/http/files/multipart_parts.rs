//! The parts of a multipart/form-data upload. `fuzz/` runs it alone.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use futures_util::stream::Stream;
use multer::{Field, Multipart};

use super::part::Part;
use super::path::PATH_MAX;

/// The parts of a body, in their order.
pub(crate) struct MultipartParts<'a> {
    fields: Multipart<'a>,
    /// The file that is being read.
    file: Option<Field<'a>>,
}

/// Why there is no next part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MultipartError {
    /// The body could not be read, for a reason of its own.
    #[error("the body could not be read")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    /// The path is over [`PATH_MAX`].
    #[error("path is too long")]
    PathTooLong,
    /// The path's bytes are not UTF-8.
    #[error("path must be UTF-8")]
    PathNotUtf8,
    /// It is not what its boundary says.
    #[error(transparent)]
    Malformed(multer::Error),
}

impl<'a> MultipartParts<'a> {
    /// Reads a body of this boundary.
    pub(crate) fn new<E>(
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'a,
        boundary: String,
    ) -> Self
    where
        E: Into<Box<dyn Error + Send + Sync>> + 'a,
    {
        Self {
            fields: Multipart::new(body, boundary),
            file: None,
        }
    }

    /// The next part, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, MultipartError> {
        loop {
            if let Some(file) = &mut self.file {
                if let Some(data) = file.chunk().await? {
                    return Ok(Some(Part::Data(data)));
                }
                self.file = None;
            }
            let Some(field) = self.fields.next_field().await? else {
                return Ok(None);
            };
            match field.name() {
                Some("path") => return Ok(Some(Part::Path(text(field).await?))),
                Some("file") => {
                    self.file = Some(field);
                    return Ok(Some(Part::Begin));
                }
                // Unknown fields are ignored everywhere; the next one skips it.
                Some(_) | None => {}
            }
        }
    }
}

async fn text(mut field: Field<'_>) -> Result<String, MultipartError> {
    let mut text = BytesMut::new();
    while let Some(data) = field.chunk().await? {
        text.extend_from_slice(&data);
        if text.len() > PATH_MAX {
            return Err(MultipartError::PathTooLong);
        }
    }
    String::from_utf8(text.into()).map_err(|_| MultipartError::PathNotUtf8)
}

impl From<multer::Error> for MultipartError {
    fn from(error: multer::Error) -> Self {
        match error {
            multer::Error::StreamReadFailed(cause) => Self::Body(cause),
            other => Self::Malformed(other),
        }
    }
}
