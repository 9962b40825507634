//! What passes, and how.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use axum::response::Sse;
use axum::response::sse::Event;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Site, address, app, ask, counting, echo, header, host, serve_raw, streaming};
use crate::rig::{PATIENCE, Rig};

const MIB: usize = 1024 * 1024;
const BIG_MIB: usize = 50;

async fn told(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_sent() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let request = site
        .ask("PUT", 3000, "/a//b?x=%20&y=1&mt=mine")
        .header("accept-language", "de")
        .header("authorization", "Bearer the-apps-own")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=1.2.3.4")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=1000")
        .header("te", "trailers")
        .body("hello");
    let told = told(request).await;
    assert_eq!(told["method"], "PUT");
    assert_eq!(told["target"], "/a//b?x=%20&y=1&mt=mine");
    assert_eq!(told["body"], 5);
    let host = site.host(3000);
    for (name, values) in [
        ("host", vec![host.as_str()]),
        ("x-forwarded-host", vec![host.as_str()]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-forwarded-proto", vec!["http"]),
        ("accept-language", vec!["de"]),
        ("authorization", vec!["Bearer the-apps-own"]),
        ("content-length", vec!["5"]),
        ("forwarded", vec![]),
        ("connection", vec![]),
        ("x-hop", vec![]),
        ("keep-alive", vec![]),
        ("te", vec![]),
    ] {
        assert_eq!(header(&told, name), values, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_arrives_as_it_was_given() {
    let site = Site::new().await;
    let answer = "HTTP/1.1 203 Whatever\r\ncontent-type: text/x-mine\r\nset-cookie: a=1\r\n\
                  set-cookie: b=2; Domain=localhost\r\nx-hop: 1\r\nconnection: x-hop, close\r\n\
                  keep-alive: timeout=5\r\nserver: mine\r\ncontent-length: 4\r\n\r\nbody";
    site.listen(8080, super::canned(answer).await);
    let response = site.ask("GET", 8080, "/").send().await.unwrap();
    assert_eq!(response.status(), 203);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/x-mine");
    assert_eq!(headers["server"], "mine");
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert!(headers.contains_key("x-request-id"));
    for dropped in ["x-hop", "keep-alive", "connection"] {
        assert!(!headers.contains_key(dropped), "{dropped}");
    }
    assert_eq!(response.text().await.unwrap(), "body");
    let head = site.ask("HEAD", 8080, "/").send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (203, &"4".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_served_under_every_other_host() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let told = told(site.ask("GET", 3000, "/api/v1/whoami")).await;
    assert_eq!(
        told["target"], "/api/v1/whoami",
        "a guest's paths are its own"
    );
    for host in [
        "localhost",
        "emberbox.example.com",
        "a.sandbox.example.com",
        "sandbox.localhost",
    ] {
        let response = ask(&site.rig, "GET", host, "/health").send().await.unwrap();
        let health: Value = response.json().await.unwrap();
        assert_eq!(health["status"], "ok", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_stream_both_ways() {
    let site = Site::new().await;
    site.listen(3000, app(counting()).await.0);
    let piece = Bytes::from(vec![7; MIB]);
    let pieces = stream::iter(vec![Ok::<_, Infallible>(piece.clone()); BIG_MIB]);
    let upload = site
        .ask("POST", 3000, "/")
        .body(reqwest::Body::wrap_stream(pieces));
    let counted = upload.send().await.unwrap().text().await.unwrap();
    assert_eq!(counted, (BIG_MIB * MIB).to_string());

    let router = streaming(move || stream::iter(vec![piece.clone(); BIG_MIB]));
    site.listen(8000, app(router).await.0);
    let response = site.ask("GET", 8000, "/").send().await.unwrap();
    assert_eq!(response.content_length(), None, "it is chunked");
    let mut chunks = response.bytes_stream();
    let mut total = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk.iter().all(|byte| *byte == 7));
        total += chunk.len();
    }
    assert_eq!(total, BIG_MIB * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_writer_back() {
    let site = Site::new().await;
    let (sent, mut seen) = mpsc::unbounded_channel();
    let router = streaming(move || {
        let sent = sent.clone();
        stream::repeat_with(move || {
            sent.send(()).unwrap();
            Bytes::from(vec![7; MIB])
        })
    });
    site.listen(3000, app(router).await.0);
    let response = site.ask("GET", 3000, "/").send().await.unwrap();
    // Nobody reads: what was made fits into the buffers on the way, and the
    // rest of an endless body waits.
    let mut made = 0;
    while timeout(std::time::Duration::from_millis(300), seen.recv())
        .await
        .is_ok()
    {
        made += 1;
        assert!(made < 200, "an endless body is not held back");
    }
    drop(response);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one() {
    let site = Site::new().await;
    let (events, receiver) = mpsc::channel::<String>(1);
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    let router = Router::new().route(
        "/",
        get(move || async move {
            let events = stream::unfold(receiver, |receiver| async {
                let text = receiver.lock().await.recv().await?;
                Some((Ok::<_, Infallible>(Event::default().data(text)), receiver))
            });
            Sse::new(events)
        }),
    );
    site.listen(3000, app(router).await.0);
    let response = site.ask("GET", 3000, "/").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut chunks = response.bytes_stream();
    for text in ["one", "two", "three"] {
        events.send(text.to_owned()).await.unwrap();
        let chunk = timeout(PATIENCE, chunks.next()).await.unwrap();
        assert_eq!(chunk.unwrap().unwrap(), format!("data: {text}\n\n"));
    }
    drop(events);
    assert!(timeout(PATIENCE, chunks.next()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_never_shared_between_sandboxes() {
    let rig = Rig::new().await;
    let first = rig.sandbox().await;
    let [vm] = rig.fleet.running().try_into().unwrap();
    let second = rig.sandbox().await;
    let other = rig
        .fleet
        .running()
        .into_iter()
        .find(|other| *other != vm)
        .unwrap();
    let mut opened = Vec::new();
    for (vm, name) in [(&vm, "first"), (&other, "second")] {
        let (server, count) = app(Router::new().route("/", get(move || async move { name }))).await;
        rig.fleet.listen(vm, 3000, server);
        opened.push(count);
    }
    for _ in 0..5 {
        for (sandbox, name) in [(&first, "first"), (&second, "second")] {
            let response = ask(&rig, "GET", &host(sandbox, 3000), "/")
                .send()
                .await
                .unwrap();
            assert_eq!(response.text().await.unwrap(), name);
        }
    }
    let opened: Vec<_> = opened
        .iter()
        .map(|count| count.load(Ordering::SeqCst))
        .collect();
    assert_eq!(opened, [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_the_guests_loopback_is_reached_too() {
    let site = Site::new().await;
    // What the agent of this rig can connect to is what this machine can.
    let server = echo().await;
    let told = told(site.ask("GET", server.port(), "/x")).await;
    assert_eq!(told["target"], "/x");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_forms_of_the_target_are_understood() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let host = site.host(3000);
    let absolute =
        format!("GET http://{host}/p?q HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = site.raw(absolute.as_bytes()).await;
    assert!(
        answer.contains("\"target\":\"/p?q\"") && answer.contains(&host),
        "{answer}"
    );
    let old = format!("GET /old HTTP/1.0\r\nhost: {host}\r\n\r\n");
    let answer = site.raw(old.as_bytes()).await;
    assert!(answer.contains("\"target\":\"/old\""), "{answer}");
    let odd = format!("GET //a/../%2e?x=[1] HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = site.raw(odd.as_bytes()).await;
    assert!(
        answer.contains(r#""target":"//a/../%2e?x=[1]""#),
        "{answer}"
    );
    let upper = format!(
        "GET /u HTTP/1.1\r\nhost: {}.:80\r\nconnection: close\r\n\r\n",
        host.to_uppercase()
    );
    let answer = site.raw(upper.as_bytes()).await;
    assert!(answer.contains("\"target\":\"/u\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_upgrade_to_http2_is_served_as_it_is() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let request = site
        .ask("GET", 3000, "/")
        .header("connection", "Upgrade, HTTP2-Settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAAP__");
    let told = told(request).await;
    assert!(header(&told, "upgrade").is_empty() && header(&told, "http2-settings").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_request_in_the_guest() {
    let site = Site::new().await;
    let (ended, mut seen) = mpsc::channel(1);
    let server = serve_raw(move |mut stream| {
        let ended = ended.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            super::read_head(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfirst";
            stream.write_all(head).await.unwrap();
            let _end = stream.read(&mut [0; 16]).await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    site.listen(3000, server);
    let response = site.ask("GET", 3000, "/").send().await.unwrap();
    assert_eq!(response.status(), 200);
    drop(response);
    timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
    // Also before the head of an answer came.
    let silent = serve_raw({
        let (ended, again) = mpsc::channel(1);
        seen = again;
        move |mut stream| {
            let ended = ended.clone();
            async move {
                use tokio::io::AsyncReadExt;
                super::read_head(&mut stream).await;
                ended.send(()).await.unwrap();
                let _end = stream.read(&mut [0; 16]).await;
                ended.send(()).await.unwrap();
            }
        }
    })
    .await;
    site.listen(8000, silent);
    let asked = tokio::spawn(site.ask("GET", 8000, "/").send());
    timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
    asked.abort();
    timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_previews_as_one_route() {
    let site = Site::new().await;
    let router = Router::new().route("/", get(|| async { Json(1) }));
    site.listen(3000, app(router).await.0);
    site.ask("GET", 3000, "/").send().await.unwrap();
    let metrics = site
        .rig
        .http
        .get(format!("http://{}/metrics", address(&site.rig)));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("route=\"preview\""), "{metrics}");
    assert!(!metrics.contains(&site.sandbox.slug));
}
