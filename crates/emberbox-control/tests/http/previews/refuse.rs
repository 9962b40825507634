//! What is said when there is no answer to pass on.

use std::net::Ipv4Addr;

use emberbox_control::{PreviewSettings, Settings};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::{Site, address, ask, canned, echo, header, host, read_head, serve_raw};
use crate::rig::{Rig, answer};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Status and code of an answer as a program gets it; the page that a browser
/// gets has to say the same.
async fn refusal(rig: &Rig, host: &str) -> (u16, String) {
    let (status, code, _) = answer(ask(rig, "GET", host, "/")).await;
    let page = ask(rig, "GET", host, "/").header("accept", BROWSER);
    let page = page.send().await.unwrap();
    assert_eq!(page.status(), status);
    let headers = page.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(headers.contains_key("content-security-policy"));
    assert!(headers.contains_key("x-request-id"));
    let text = page.text().await.unwrap();
    assert!(
        text.starts_with("<!doctype html>") && text.contains(&code),
        "{text}"
    );
    assert_eq!(
        headers.contains_key("retry-after"),
        text.contains("http-equiv=\"refresh\"")
    );
    (status, code)
}

/// A port of this machine that nothing listens on.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_show_nothing() {
    let site = Site::new().await;
    for host in [
        "nobody.sandbox.localhost",
        "3000-nobody.sandbox.localhost",
        "3000.sandbox.localhost",
        "0-abc.sandbox.localhost",
        "a.b.sandbox.localhost",
        "-.sandbox.localhost",
    ] {
        let (status, code) = refusal(&site.rig, host).await;
        assert_eq!((status, code.as_str()), (404, "NOT_FOUND"), "{host}");
    }
    let agent = host(&site.sandbox, emberbox_guest::PORT);
    let (status, code) = refusal(&site.rig, &agent).await;
    assert_eq!((status, code.as_str()), (502, "PORT_NOT_SERVED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_waits_for_a_server_that_is_not_up_yet() {
    let site = Site::new().await;
    let port = closed_port().await;
    let (status, code) = refusal(&site.rig, &site.host(port)).await;
    assert_eq!((status, code.as_str()), (502, "PORT_NOT_SERVED"));
    let response = site.ask("GET", port, "/").header("accept", BROWSER);
    let response = response.send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "2");
    site.listen(port, echo().await);
    let response = site.ask("GET", port, "/").send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_that_do_not_run() {
    let rig = Rig::new().await;
    let site = Site::on(rig).await;
    site.listen(3000, echo().await);
    site.rig.fleet.kill(&site.vm).await;
    crate::rig::eventually("the failure", || async {
        let sandbox = site.rig.client.get_sandbox(site.sandbox.id.as_str()).await;
        !sandbox.unwrap().ready
    })
    .await;
    let (status, code) = refusal(&site.rig, &site.host(3000)).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));

    let gone = site.rig.sandbox().await;
    site.rig
        .client
        .destroy_sandbox(gone.id.as_str())
        .await
        .unwrap();
    let (status, code) = refusal(&site.rig, &host(&gone, 3000)).await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_speak_no_http() {
    let site = Site::new().await;
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: a\r\n".repeat(1000));
    for (port, bytes) in [
        (3000, "garbage\r\n\r\n"),
        (3001, ""),
        (3002, "HTTP/1.1 200"),
        (3003, "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nab"),
        (3004, "HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n"),
        (3005, "HTTP/1.1 9999 OK\r\n\r\n"),
        (3006, "SSH-2.0-OpenSSH_9.2\r\n"),
        (3007, &endless),
        (3008, &many),
    ] {
        site.listen(port, canned(bytes.to_owned()).await);
        let (status, code) = refusal(&site.rig, &site.host(port)).await;
        assert_eq!(
            (status, code.as_str()),
            (502, "PREVIEW_UNREACHABLE"),
            "{port}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer() {
    let preview = PreviewSettings {
        head_timeout_sec: 1,
        max_connections: 2,
        ..PreviewSettings::default()
    };
    let settings = Settings {
        preview,
        ..Settings::default()
    };
    let site = Site::on(Rig::with(settings).await).await;
    let silent = serve_raw(|mut stream| async move {
        let _end = stream.read_to_end(&mut Vec::new()).await;
    });
    site.listen(3000, silent.await);
    let (status, code) = refusal(&site.rig, &site.host(3000)).await;
    assert_eq!((status, code.as_str()), (504, "PREVIEW_TIMEOUT"));
    // Two may wait at a time. The others hear at once.
    let asked = (0..4).map(|_| site.ask("GET", 3000, "/").send());
    let answers = futures_util::future::join_all(asked).await;
    let mut statuses: Vec<_> = answers
        .into_iter()
        .map(|a| a.unwrap().status().as_u16())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [503, 503, 504, 504]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_could_be_read_in_two_ways() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let host = site.host(3000);
    for (head, status) in [
        ("GET / HTTP/1.1\r\nhost: HOST\r\nhost: other\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: HOST\r\nx: a\r\n b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: HOST\r\nx : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: HOST\r\nx: a\rb\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: HOST\r\nx: a\0b\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nhost: HOST\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: HOST\r\ncontent-length: +1\r\n\r\na",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked, x\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.0\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("CONNECT HOST:80 HTTP/1.1\r\nhost: HOST:80\r\n\r\n", "400"),
    ] {
        let request = head.replace("HOST", &host);
        let answer = site
            .raw(format!("{request}GET /never HTTP/1.1\r\n\r\n").as_bytes())
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head:?} gives {answer}"
        );
        assert!(!answer.contains("/never"), "{head:?} gives {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_framings_of_one_body_become_one() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let request = format!(
        "POST /first HTTP/1.1\r\nhost: {}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n",
        site.host(3000)
    );
    let answer = site.raw(request.as_bytes()).await;
    assert!(!answer.contains("smuggled"), "{answer}");
    if let Some((head, body)) = answer.split_once("\r\n\r\n")
        && head.starts_with("HTTP/1.1 200")
    {
        let told: Value = serde_json::from_str(body).unwrap();
        assert_eq!(told["body"], 0);
        let framings =
            header(&told, "content-length").len() + header(&told, "transfer-encoding").len();
        assert_eq!(framings, 1, "{told}");
    } else {
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_is_no_whole_body() {
    let site = Site::new().await;
    let (told, mut seen) = tokio::sync::mpsc::channel(1);
    let server = serve_raw(move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            let mut body = Vec::new();
            let _end = stream.read_to_end(&mut body).await;
            told.send(body).await.unwrap();
        }
    });
    site.listen(3000, server.await);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        site.host(3000)
    );
    let mut stream = site.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
        .await
        .unwrap();
    drop(stream);
    let body = seen.recv().await.unwrap();
    let body = String::from_utf8_lossy(&body);
    assert!(
        !body.contains("0\r\n\r\n"),
        "the guest saw an end: {body:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_names_is_escaped() {
    let site = Site::new().await;
    let request = ask(
        &site.rig,
        "GET",
        "nobody.sandbox.localhost",
        "/<script>alert(1)</script>",
    )
    .header("x-request-id", "<b>")
    .header("accept", BROWSER);
    let page = request.send().await.unwrap().text().await.unwrap();
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    assert!(!page.contains(&address(&site.rig)));
}
