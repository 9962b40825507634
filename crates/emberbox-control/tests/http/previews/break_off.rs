//! Answers that end too early never look whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::{Site, canned, read_head, serve_raw};
use crate::rig::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_its_answer() {
    let site = Site::new().await;
    for (port, bytes) in [
        (3000, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"),
        (
            3001,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        ),
        (
            3002,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\nZZ\r\n",
        ),
        (
            3003,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nshort",
        ),
    ] {
        site.listen(port, canned(bytes).await);
        // Broken off before the head was sent is broken off as well.
        if let Ok(response) = site.ask("GET", port, "/").send().await {
            assert_eq!(response.status(), 200);
            let body = timeout(PATIENCE, response.bytes()).await.unwrap();
            assert!(body.is_err(), "{bytes:?} became {body:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_an_answer_is_nobodys() {
    let site = Site::new().await;
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\noneHTTP/1.1 200 OK\r\n\
               content-length: 6\r\n\r\npoison";
    site.listen(3000, canned(two).await);
    for _ in 0..3 {
        let response = site.ask("GET", 3000, "/").send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_breaks_off_with_its_vm() {
    let site = Site::new().await;
    let server = serve_raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        stream.write_all(head).await.unwrap();
        let _end = stream.read(&mut [0; 16]).await;
    });
    site.listen(3000, server.await);
    let mut response = site.ask("GET", 3000, "/").send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "first");
    site.rig.fleet.kill(&site.vm).await;
    let next = timeout(PATIENCE, response.chunk()).await.unwrap();
    assert!(next.is_err(), "{next:?}");
}

/// A server that answers one request on each connection, and closes it when
/// the next one arrives on it, as one does whose timer was late.
async fn closes_on_the_second() -> (SocketAddr, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let server = serve_raw(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
            let _next = stream.read(&mut [0; 1]).await;
        }
    });
    (server.await, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_is_no_failure() {
    let site = Site::new().await;
    let (server, requests) = closes_on_the_second().await;
    site.listen(3000, server);
    for (asked, method) in ["GET", "GET", "POST", "GET", "HEAD", "POST", "GET"]
        .into_iter()
        .enumerate()
    {
        let response = site.ask(method, 3000, "/").send().await.unwrap();
        assert_eq!(response.status(), 200, "{method}, number {asked}");
        // Each was seen once by who answered it.
        assert_eq!(requests.load(Ordering::SeqCst), asked + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_asked_twice_at_most() {
    let site = Site::new().await;
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let server = serve_raw(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    site.listen(3000, server.await);
    for (method, most) in [("GET", 2), ("POST", 1)] {
        requests.store(0, Ordering::SeqCst);
        let response = site.ask(method, 3000, "/").send().await.unwrap();
        assert_eq!(response.status(), 502);
        assert_eq!(requests.load(Ordering::SeqCst), most, "{method}");
    }
}
