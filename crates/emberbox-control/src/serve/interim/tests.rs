use axum::Router;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;
use tower_http::add_extension::AddExtension;

use super::*;

/// A client of a server with one slow and one quick route.
fn connect(buffer: usize) -> DuplexStream {
    let (client, server) = duplex(buffer);
    let slow = async |patience: Patience| {
        patience.with(sleep(SILENCE * 3 + SILENCE / 2)).await;
        "done"
    };
    let routes = Router::new()
        .route("/slow", get(slow))
        .route("/quick", get(async || "quick"));
    let interim = Interim::default();
    let io = TokioIo::new(interim.on(server));
    let service = TowerToHyperService::new(AddExtension::new(routes, interim));
    tokio::spawn(async move {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        let _broken = builder.serve_connection(io, service).await;
    });
    client
}

async fn whole(mut client: DuplexStream, request: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

fn get_closing(path: &str, version: &str) -> String {
    format!("GET {path} {version}\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_preceded_by_signs_of_life() {
    // Also where they have to be written byte by byte.
    for buffer in [4096, 1] {
        let text = whole(connect(buffer), &get_closing("/slow", "HTTP/1.1")).await;
        let processing = std::str::from_utf8(PROCESSING).unwrap();
        let rest = text.strip_prefix(&processing.repeat(3)).expect(&text);
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(rest.ends_with("done"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn quick_answers_and_old_clients_get_none() {
    let text = whole(connect(4096), &get_closing("/quick", "HTTP/1.1")).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    let text = whole(connect(4096), &get_closing("/slow", "HTTP/1.0")).await;
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_second_request_on_the_connection_is_not_disturbed() {
    let first = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    let both = format!("{first}{}", get_closing("/quick", "HTTP/1.1"));
    let text = whole(connect(4096), &both).await;
    let answers: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(answers, ["102", "102", "102", "200", "200"], "{text}");
    assert!(text.ends_with("quick"), "{text}");
}

#[tokio::test]
async fn what_was_asked_for_is_taken_back_at_the_end() {
    let interim = Interim::default();
    let (mut client, server) = duplex(64);
    let mut io = interim.on(server);
    interim.ask();
    drop(Withdraw(&interim));
    io.write_all(b"answer").await.unwrap();
    io.flush().await.unwrap();
    drop(io);
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}
