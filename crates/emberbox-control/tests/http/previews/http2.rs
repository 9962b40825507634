//! Clients that speak HTTP/2.

use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Site, echo, header, upgrade};
use crate::rig::PATIENCE;

async fn client(site: &Site) -> SendRequest<Body> {
    let stream = TokioIo::new(site.connect().await);
    let (client, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_translated() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let mut client = client(&site).await;
    let host = site.host(3000);
    for (method, body, length) in [("GET", Body::empty(), 0), ("POST", Body::from("hello"), 5)] {
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{host}/p?q=1"))
            .header("cookie", "a=1")
            .body(body)
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("connection"));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            (&told["method"], &told["target"]),
            (&method.into(), &"/p?q=1".into())
        );
        assert_eq!(told["body"], length);
        assert_eq!(header(&told, "host"), [&host]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_on_one_stream() {
    let site = Site::new().await;
    site.listen(5173, upgrade::echo().await);
    let mut client = client(&site).await;
    let url = format!("http://{}/", site.host(5173));
    let request = |protocol: &'static str| {
        hyper::Request::connect(&url)
            .extension(Protocol::from_static(protocol))
            .header("sec-websocket-version", "13")
            .body(Body::empty())
            .unwrap()
    };
    // The server says that it takes these once its settings have arrived.
    let warm = hyper::Request::get(&url).body(Body::empty()).unwrap();
    let _answered = client.send_request(warm).await.unwrap();
    let mut response = client.send_request(request("websocket")).await.unwrap();
    assert_eq!(response.status(), 200);
    let stream = hyper::upgrade::on(&mut response).await.unwrap();
    let stream = TokioIo::new(stream);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::text("hello")).await.unwrap();
    let echoed = timeout(PATIENCE, socket.next()).await.unwrap();
    assert_eq!(echoed.unwrap().unwrap(), Message::text("hello"));

    let other = client.send_request(request("connect-udp")).await.unwrap();
    assert_eq!(other.status(), 400);
}
