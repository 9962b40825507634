//! What a refusal leaves unread of a request's body.
//!
//! HTTP/1.1 cannot skip a body: a connection whose request was not read to its
//! end cannot take another one. So the rest is read and thrown away, for a
//! while, and after that the answer says that the connection ends. Without
//! that word a client sends its next request into a closing connection and
//! never hears of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::timeout;

/// How long a refused body is still read. Clients look for the answer only
/// after they have sent everything; a connection closed before that would
/// reach them as a broken pipe instead of the reason.
const DRAIN: Duration = Duration::from_secs(30);

/// Answers a request and deals with what is left of its body then.
pub(super) async fn settle(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Such a client sends nothing before it is asked to.
    let waits = request
        .headers()
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let version = request.version();
    let left = Left::default();
    let request = request.map(|body| Body::new(Lent::new(body, left.clone())));
    let mut response = next.run(request).await;
    let Some(Unread { body, begun }) = left.take() else {
        return response;
    };
    let ends = response.headers().contains_key(header::CONNECTION);
    if !ends && ((waits && !begun) || !read_to_end(body).await) && version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn read_to_end(mut body: Body) -> bool {
    let rest = async {
        loop {
            match body.frame().await {
                None => return true,
                Some(Ok(_refused)) => {}
                Some(Err(_broken)) => return false,
            }
        }
    };
    timeout(DRAIN, rest).await.unwrap_or(false)
}

/// A body that nobody reads any more.
struct Unread {
    body: Body,
    begun: bool,
}

/// Where it is put.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Option<Unread>>>);

impl Left {
    fn take(&self) -> Option<Unread> {
        self.0.lock().expect("no panic while it is held").take()
    }

    fn put(&self, unread: Unread) {
        *self.0.lock().expect("no panic while it is held") = Some(unread);
    }
}

/// A body that comes back when it is dropped before its end.
struct Lent {
    /// None at its end.
    body: Option<Body>,
    begun: bool,
    left: Left,
}

impl Lent {
    fn new(body: Body, left: Left) -> Self {
        Self {
            body: Some(body),
            begun: false,
            left,
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.begun = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let begun = self.begun;
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
        {
            self.left.put(Unread { body, begun });
        }
    }
}

#[cfg(test)]
mod tests;
