//! What an upload is made of, whatever its format.

use bytes::Bytes;

/// A piece of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Where the file goes.
    Path(String),
    /// The file begins.
    Begin,
    /// More of the file.
    Data(Bytes),
}
