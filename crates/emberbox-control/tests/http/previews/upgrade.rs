//! WebSockets and other protocols.

use std::time::{Duration, Instant};

use emberbox_control::{PreviewSettings, Settings};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use super::{Site, canned, read_head, serve_raw};
use crate::rig::{PATIENCE, Rig};

/// A server that speaks the subprotocol of Vite's client and echoes.
pub(super) async fn echo() -> std::net::SocketAddr {
    serve_raw(|stream| async move {
        #[expect(
            clippy::result_large_err,
            reason = "the shape of tungstenite's callback"
        )]
        let choose = |request: &Request, mut response: Response| {
            assert!(request.headers().contains_key("sec-websocket-key"));
            if let Some(asked) = request.headers().get("sec-websocket-protocol") {
                let headers = response.headers_mut();
                headers.insert("sec-websocket-protocol", asked.clone());
            }
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, choose).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await
}

async fn open(site: &Site, protocol: &str) -> (WebSocketStream<tokio::net::TcpStream>, Response) {
    let url = format!("ws://{}/?token=abc", site.host(5173));
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
    let (socket, response) = client_async(request, site.connect().await).await.unwrap();
    (socket, response.map(|_| ()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_carries_messages_both_ways() {
    let site = Site::new().await;
    site.listen(5173, echo().await);
    let (mut socket, response) = open(&site, "vite-hmr").await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "vite-hmr");
    let large = Message::Binary(Bytes::from(vec![9; 1 << 20]));
    for message in [Message::text("hello"), large, Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        let echoed = timeout(PATIENCE, socket.next()).await.unwrap();
        assert_eq!(echoed.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(message) = timeout(PATIENCE, socket.next()).await.unwrap() {
        assert!(message.unwrap().is_close());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_vm() {
    let site = Site::new().await;
    site.listen(5173, echo().await);
    let (mut socket, _) = open(&site, "vite-hmr").await;
    site.rig.fleet.kill(&site.vm).await;
    let ended = timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_protocol_can_be_switched_to() {
    let site = Site::new().await;
    let server = serve_raw(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("upgrade: my-protocol/2\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        let answer = b"HTTP/1.1 101 Go\r\nupgrade: my-protocol/2\r\nconnection: upgrade\r\n\r\nhi";
        stream.write_all(answer).await.unwrap();
        let mut told = [0; 4];
        stream.read_exact(&mut told).await.unwrap();
        stream.write_all(&told).await.unwrap();
    })
    .await;
    site.listen(3000, server);
    let mut stream = site.connect().await;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nconnection: keep-alive, Upgrade\r\nupgrade: my-protocol/2\r\n\r\n",
        site.host(3000)
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: my-protocol/2"), "{head}");
    stream.write_all(b"ping").await.unwrap();
    let mut rest = String::new();
    let read = stream.read_to_string(&mut rest);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(rest, "hiping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_refuse_to_switch_but_not_do_it_unasked() {
    let site = Site::new().await;
    site.listen(
        3000,
        canned("HTTP/1.1 426 No\r\ncontent-length: 2\r\n\r\nno").await,
    );
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        site.host(3000)
    );
    let mut stream = site.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 426"));

    let unasked = "HTTP/1.1 101 Go\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nbytes";
    site.listen(8000, canned(unasked).await);
    let response = site.ask("GET", 8000, "/").send().await.unwrap();
    assert_eq!(response.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_says_nothing_ends() {
    let preview = PreviewSettings {
        tunnel_idle_sec: 1,
        ..PreviewSettings::default()
    };
    let settings = Settings {
        preview,
        ..Settings::default()
    };
    let site = Site::on(Rig::with(settings).await).await;
    site.listen(5173, echo().await);
    let (mut socket, _) = open(&site, "vite-hmr").await;
    // One that says something every now and then goes on for longer than that.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        socket.send(Message::text("alive")).await.unwrap();
        assert!(timeout(PATIENCE, socket.next()).await.unwrap().is_some());
        sleep(Duration::from_millis(300)).await;
    }
    let ended = timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
}
