//! A file of a guest as a response body.

use std::io;

use bytes::Bytes;
use emberbox_guest::client::FileReader;
use futures_util::stream::{Stream, unfold};

use crate::Failure;

struct State {
    reader: FileReader,
    first: Option<Bytes>,
    left: Option<u64>,
}

/// The length, if the file has one, and the bytes. Dropping the stream ends
/// the call in the guest.
pub(in crate::http) async fn stream(
    mut reader: FileReader,
) -> Result<(Option<u64>, impl Stream<Item = io::Result<Bytes>> + Send), Failure> {
    let size = reader.stat().size;
    // Files of /proc say 0 and hold something; only the first read tells.
    let first = reader.next().await?;
    let left = match (size, &first) {
        (0, Some(_)) => None,
        (size, _) => Some(size),
    };
    let state = State {
        reader,
        first,
        left,
    };
    Ok((left, unfold(Some(state), step)))
}

/// The next piece. A file that grows is cut at the length that was announced;
/// one that shrinks breaks the connection, so that nobody takes a part for
/// the whole.
async fn step(state: Option<State>) -> Option<(io::Result<Bytes>, Option<State>)> {
    let mut state = state?;
    if state.left == Some(0) {
        return None;
    }
    let next = match state.first.take() {
        Some(first) => Ok(Some(first)),
        None => state.reader.next().await,
    };
    let mut data = match next {
        Ok(Some(data)) => data,
        Ok(None) if state.left.is_none() => return None,
        Ok(None) => {
            let short = io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter");
            return Some((Err(short), None));
        }
        Err(error) => return Some((Err(io::Error::other(error)), None)),
    };
    if let Some(left) = &mut state.left {
        let room = usize::try_from(*left).unwrap_or(usize::MAX);
        data.truncate(room);
        *left -= data.len() as u64;
    }
    Some((Ok(data), Some(state)))
}
