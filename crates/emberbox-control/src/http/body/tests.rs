use axum::body::Body;
use bytes::Bytes;
use emberbox_api::ErrorCode;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Duration, Instant};

use super::{BodyReader, SILENCE, WHOLE_SMALL};

fn reader(body: Body, limit: u64) -> BodyReader {
    BodyReader::new(body, limit, ErrorCode::BodyTooLarge)
}

/// Some bytes, then nothing for ever.
fn stalled() -> Body {
    let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{\"a")) });
    Body::from_stream(first.chain(stream::pending()))
}

/// A byte every ten seconds.
fn trickle() -> Body {
    Body::from_stream(stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_half_way_times_out() {
    let started = Instant::now();
    let failure = reader(stalled(), 100).whole().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::BodyTimeout);
    assert_eq!(started.elapsed().as_secs(), SILENCE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_times_out() {
    let started = Instant::now();
    let failure = reader(trickle(), 100).whole().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::BodyTimeout);
    assert_eq!(started.elapsed().as_secs(), WHOLE_SMALL.as_secs());
}

#[tokio::test]
async fn the_limit_is_exact() {
    let exact = reader(Body::from("12345"), 5).whole().await.unwrap();
    assert_eq!(exact, "12345");
    let failure = reader(Body::from("123456"), 5).whole().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::BodyTooLarge);
}
