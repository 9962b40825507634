//! Previews: the proxy, its errors, exposing, access.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{any, get, post};
use bytes::Bytes;
use emberbox_api::{CreateSandbox, Sandbox};
use emberbox_core::VmId;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::rig::{PATIENCE, Rig};

mod access;
mod break_off;
mod expose;
mod http2;
mod pass;
mod refuse;
mod tls;
mod upgrade;
mod wake;

/// A rig with one sandbox.
pub(super) struct Site {
    pub(super) rig: Rig,
    pub(super) sandbox: Sandbox,
    pub(super) vm: VmId,
}

impl Site {
    pub(super) async fn new() -> Self {
        Self::on(Rig::new().await).await
    }

    pub(super) async fn on(rig: Rig) -> Self {
        let sandbox = rig.sandbox().await;
        let [vm] = rig.fleet.running().try_into().unwrap();
        Self { rig, sandbox, vm }
    }

    pub(super) async fn of_template(template: &str) -> Self {
        let rig = Rig::new().await;
        let create = CreateSandbox {
            template_id: Some(template.to_owned()),
            ..CreateSandbox::default()
        };
        let sandbox = rig.client.create_sandbox(&create).await.unwrap();
        let [vm] = rig.fleet.running().try_into().unwrap();
        Self { rig, sandbox, vm }
    }

    /// From now on this server is what listens on a port of the guest.
    pub(super) fn listen(&self, port: u16, server: SocketAddr) {
        self.rig.fleet.listen(&self.vm, port, server);
    }

    pub(super) fn host(&self, port: impl Into<Option<u16>>) -> String {
        host(&self.sandbox, port)
    }

    /// A request to a preview, as it arrives once DNS has led it here.
    pub(super) fn ask(
        &self,
        method: &str,
        port: impl Into<Option<u16>>,
        path: &str,
    ) -> reqwest::RequestBuilder {
        ask(&self.rig, method, &self.host(port), path)
    }

    /// Sends bytes as they are and returns whatever comes back.
    pub(super) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let all = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // A reset after the answer says no more than its end does.
        let _end = all.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(address(&self.rig)).await.unwrap()
    }
}

pub(super) fn host(sandbox: &Sandbox, port: impl Into<Option<u16>>) -> String {
    match port.into() {
        Some(port) => format!("{port}-{}.sandbox.localhost", sandbox.slug),
        None => format!("{}.sandbox.localhost", sandbox.slug),
    }
}

pub(super) fn address(rig: &Rig) -> String {
    let url = rig.url.trim_end_matches("/api/v1");
    url.trim_start_matches("http://").to_owned()
}

pub(super) fn ask(rig: &Rig, method: &str, host: &str, path: &str) -> reqwest::RequestBuilder {
    let url = format!("http://{}{path}", address(rig));
    rig.http
        .request(method.parse().unwrap(), url)
        .header("host", host)
}

/// A web server in a guest, and how many connections it was opened.
pub(super) async fn app(router: Router) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    let listener = axum::serve::ListenerExt::tap_io(listener, move |_stream| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, opened)
}

/// A web server that tells what it was asked.
pub(super) async fn echo() -> SocketAddr {
    app(Router::new().fallback(any(tell))).await.0
}

async fn tell(request: Request) -> axum::Json<serde_json::Value> {
    let (parts, body) = request.into_parts();
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let length = axum::body::to_bytes(body, 1 << 20).await.unwrap().len();
    axum::Json(json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "body": length,
    }))
}

/// A server that answers every connection with these bytes and closes it.
pub(super) async fn canned(answer: impl Into<Bytes>) -> SocketAddr {
    let answer = answer.into();
    serve_raw(move |mut stream| {
        let answer = answer.clone();
        async move {
            read_head(&mut stream).await;
            let _gone = stream.write_all(&answer).await;
            let _gone = stream.shutdown().await;
            // Not closed before the other side is, which could lose bytes.
            let _end = stream.read(&mut [0; 64]).await;
        }
    })
    .await
}

/// A server that does with each connection what the test says.
pub(super) async fn serve_raw<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// Reads until the end of a request's head and returns what came.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub(super) fn header<'a>(told: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let headers = told["headers"].as_array().unwrap();
    let of_name = headers.iter().filter(|header| header[0] == name);
    of_name.map(|header| header[1].as_str().unwrap()).collect()
}

/// A router whose `GET /` answers with a body that comes in pieces.
pub(super) fn streaming<S, T>(make: impl Fn() -> S + Clone + Send + Sync + 'static) -> Router
where
    S: Stream<Item = T> + Send + 'static,
    T: Into<Bytes> + Send + 'static,
{
    let answer = move || {
        let pieces = make().map(|piece| Ok::<_, std::io::Error>(piece.into()));
        async move { Response::new(Body::from_stream(pieces)) }
    };
    Router::new().route("/", get(answer))
}

/// A router whose `POST /` tells how many bytes came, without keeping them.
pub(super) fn counting() -> Router {
    let count = |body: Body| async move {
        let mut chunks = body.into_data_stream();
        let mut total = 0;
        while let Some(chunk) = chunks.next().await {
            total += chunk.unwrap().len();
        }
        total.to_string()
    };
    Router::new().route("/", post(count))
}
