use axum::body::to_bytes;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::post;
use axum::{Router, response::IntoResponse};
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;

/// Pieces of a body, and how many of them were taken.
fn pieces(count: usize) -> (Body, Arc<Mutex<usize>>) {
    let taken = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&taken);
    let pieces = stream::iter(0..count).map(move |_| {
        *counter.lock().unwrap() += 1;
        Ok::<_, std::io::Error>(Bytes::from_static(b"piece"))
    });
    (Body::from_stream(pieces), taken)
}

async fn one_frame(mut request: Request) -> impl IntoResponse {
    let _first = request.body_mut().frame().await;
    StatusCode::UNPROCESSABLE_ENTITY
}

async fn answered(path: &str, body: Body, expect: bool) -> Response {
    let routes = Router::new()
        .route("/unread", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/begun", post(one_frame))
        .route(
            "/read",
            post(|request: Request| async {
                to_bytes(request.into_body(), usize::MAX).await.unwrap();
            }),
        )
        .layer(from_fn(settle));
    let mut request = Request::post(path);
    if expect {
        request = request.header(header::EXPECT, "100-Continue");
    }
    routes.oneshot(request.body(body).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end_and_the_connection_stays() {
    for path in ["/unread", "/begun", "/read"] {
        let (body, taken) = pieces(100);
        let response = answered(path, body, false).await;
        assert_eq!(*taken.lock().unwrap(), 100, "{path}");
        assert!(!response.headers().contains_key(header::CONNECTION));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_ends_the_connection_after_a_while() {
    let started = Instant::now();
    let first = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"{")) });
    let body = Body::from_stream(first.chain(stream::pending()));
    let response = answered("/unread", body, false).await;
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert_eq!(started.elapsed().as_secs(), DRAIN.as_secs());
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_not_read() {
    let (body, taken) = pieces(3);
    let response = answered("/unread", body, true).await;
    assert_eq!(response.headers()[header::CONNECTION], "close");
    assert_eq!(*taken.lock().unwrap(), 0);
    // One that was asked sends all of it.
    let (body, taken) = pieces(3);
    let response = answered("/begun", body, true).await;
    assert!(!response.headers().contains_key(header::CONNECTION));
    assert_eq!(*taken.lock().unwrap(), 3);
}
