//! Reading request bodies: with a limit on size and a limit on silence.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use emberbox_api::ErrorCode;
use futures_util::stream::{Stream, unfold};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Failure;

/// How long a body may be silent. A mobile client's pause is shorter; a client
/// that died without a word must not hold a request for ever.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a small body may take as a whole, so that one byte every now and
/// then does not hold a request either.
const WHOLE_SMALL: Duration = Duration::from_secs(60);

/// A request body being read.
pub(super) struct BodyReader {
    body: Body,
    left: u64,
    too_large: ErrorCode,
}

impl BodyReader {
    /// A body of at most `limit` bytes; a larger one fails with `too_large`.
    pub(super) fn new(body: Body, limit: u64, too_large: ErrorCode) -> Self {
        Self {
            body,
            left: limit,
            too_large,
        }
    }

    /// The next bytes, or `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_elapsed| stopped())?;
            let data = match frame {
                None => return Ok(None),
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(error)) => {
                    return Err(Failure::because(
                        ErrorCode::BodyTimeout,
                        "the request body broke off",
                        error,
                    ));
                }
            };
            // Anything else is trailers, which nobody reads.
            if let Ok(data) = data {
                self.left = self
                    .left
                    .checked_sub(data.len() as u64)
                    .ok_or_else(|| self.over_limit())?;
                return Ok(Some(data));
            }
        }
    }

    /// The body as a stream, for parsers that want one.
    pub(super) fn stream(&mut self) -> impl Stream<Item = Result<Bytes, Failure>> + Send + '_ {
        unfold(self, |reader| async move {
            let next = reader.next().await.transpose()?;
            Some((next, reader))
        })
    }

    /// The whole of a small body.
    pub(super) async fn whole(mut self) -> Result<Bytes, Failure> {
        let deadline = Instant::now() + WHOLE_SMALL;
        let mut whole = BytesMut::new();
        loop {
            let next = timeout_at(deadline, self.next())
                .await
                .map_err(|_elapsed| stopped())??;
            match next {
                // Most bodies are one frame: no copy.
                Some(data) if whole.is_empty() => whole = BytesMut::from(data),
                Some(data) => whole.extend_from_slice(&data),
                None => return Ok(whole.freeze()),
            }
        }
    }

    fn over_limit(&self) -> Failure {
        Failure::new(self.too_large, "the request body is over the limit")
    }
}

fn stopped() -> Failure {
    Failure::new(ErrorCode::BodyTimeout, "the request body stopped arriving")
}

#[cfg(test)]
mod tests;
