//! Uploads in multipart/form-data.
//!
//! The files below stand alone: the crate around them takes minutes to build.

#![no_main]

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use libfuzzer_sys::fuzz_target;

use files::multipart_parts::{MultipartError, MultipartParts};
use files::part::Part;
use files::path::PATH_MAX;

#[path = "../../crates/emberbox-control/src/http/files"]
#[expect(dead_code, reason = "only this format is looked at here")]
mod files {
    pub(crate) mod multipart_parts;
    pub(crate) mod part;
    pub(crate) mod path;
}

/// The boundary of every body; the seeds have it.
const BOUNDARY: &str = "x";

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how large the pieces are that a body comes in.
    let Some((size, body)) = bytes.split_first() else {
        return;
    };
    let whole = parts(body, body.len());
    let in_pieces = parts(body, usize::from(*size));
    // However it was cut on its way, it is the same upload.
    assert_eq!(in_pieces, whole);
});

/// What a body is made of, and whether all of it could be read.
fn parts(body: &[u8], size: usize) -> (Vec<Part>, bool) {
    let pieces: Vec<_> = body
        .chunks(size.max(1))
        .map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)))
        .collect();
    let mut reader = MultipartParts::new(stream::iter(pieces), BOUNDARY.to_owned());
    let mut parts = Vec::new();
    let read = async {
        loop {
            match reader.next().await {
                Ok(Some(Part::Data(data))) => match parts.last_mut() {
                    // Where a file is cut says nothing.
                    Some(Part::Data(before)) => *before = [&before[..], &data[..]].concat().into(),
                    _ => {
                        assert_eq!(parts.last(), Some(&Part::Begin));
                        parts.push(Part::Data(data));
                    }
                },
                Ok(Some(part)) => {
                    if let Part::Path(path) = &part {
                        assert!(path.len() <= PATH_MAX);
                    }
                    parts.push(part);
                }
                Ok(None) => return true,
                Err(MultipartError::Body(never)) => panic!("the body cannot fail: {never}"),
                Err(
                    MultipartError::PathTooLong
                    | MultipartError::PathNotUtf8
                    | MultipartError::Malformed(_),
                ) => return false,
            }
        }
    };
    let whole = read.now_or_never().expect("nothing to wait for");
    if !whole {
        // How much of a file comes before it turns out to be broken depends on
        // how it was cut.
        parts.clear();
    }
    (parts, whole)
}
