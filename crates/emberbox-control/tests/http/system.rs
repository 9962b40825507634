//! Routes, keys, ids, documents.

use std::collections::HashSet;

use emberbox_api::client::Client;
use emberbox_api::{CreateApiKey, ErrorCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, answer};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_key_nothing_is_told() {
    let rig = Rig::new().await;
    for header in [
        None,
        Some("Bearer nope"),
        Some("Bearer "),
        Some("Basic abc"),
        Some("x"),
    ] {
        for path in [
            "/sandboxes",
            "/sandboxes/sbx_unknown",
            "/sandbox-templates",
            "/api-keys",
        ] {
            let mut request = rig.http.get(format!("{}{path}", rig.url));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let (status, code, _) = answer(request).await;
            assert_eq!(
                (status, code.as_str()),
                (401, "UNAUTHORIZED"),
                "{header:?} {path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_routes_and_methods_are_not_found() {
    let rig = Rig::new().await;
    for (method, path) in [
        ("GET", "/nope"),
        ("POST", "/sandboxes/sbx_x/fs/write"),
        ("PUT", "/sandboxes"),
        ("PUT", "/sandbox-templates"),
        ("PUT", "/sandboxes/sbx_x"),
        ("GET", "/sandboxes/sbx_x/exec"),
        ("DELETE", "/"),
    ] {
        let (status, code, _) = answer(rig.request(method, path)).await;
        assert_eq!(
            (status, code.as_str()),
            (404, "ROUTE_NOT_FOUND"),
            "{method} {path}"
        );
    }
    let root = rig.url.trim_end_matches("/api/v1");
    let (status, _, _) = answer(rig.http.get(format!("{root}/elsewhere"))).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_are_no_text_are_errors_in_the_one_shape() {
    let rig = Rig::new().await;
    for (method, path) in [
        ("GET", "/sandboxes/%ff"),
        ("GET", "/sandboxes/by-name/%ff"),
        ("GET", "/sandbox-templates/%ff"),
        ("DELETE", "/api-keys/%ff"),
    ] {
        let (status, code, _) = answer(rig.request(method, path)).await;
        assert_eq!((status, code.as_str()), (422, "INVALID_PATH"), "{path}");
    }
    let (status, code, _) = answer(rig.request("GET", "/sandboxes?state=%ff&state=x")).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sane_request_ids_are_kept() {
    let rig = Rig::new().await;
    let sent = |id: &'static str| rig.request("GET", "/nope").header("x-request-id", id);
    let (_, _, body) = answer(sent("my-id.1")).await;
    assert_eq!(body["error"]["request_id"], "my-id.1");
    for insane in [
        "",
        "with space",
        "a\"b",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ] {
        let (_, _, body) = answer(sent(insane)).await;
        let id = body["error"]["request_id"].as_str().unwrap();
        assert!(id.starts_with("req_"), "{insane:?} became {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked() {
    let rig = Rig::new().await;
    let request = CreateApiKey {
        name: Some("ci".to_owned()),
        expires_in_seconds: Some(3600),
        ..CreateApiKey::default()
    };
    let made = rig.client.create_key(&request).await.unwrap();
    let other = Client::new(&rig.url, SecretString::from(made.key.clone())).unwrap();
    let own = rig.client.whoami().await.unwrap();
    let theirs = other.whoami().await.unwrap();
    assert_eq!(
        (&theirs.tenant_id, &theirs.api_key_id),
        (&own.tenant_id, &made.info.id)
    );
    let listed = rig.client.list_keys().await.unwrap();
    assert!(listed.contains(&made.info) && made.key.starts_with(&made.info.prefix));

    rig.client.revoke_key(made.info.id.as_str()).await.unwrap();
    let refused = other.whoami().await.unwrap_err();
    assert_eq!(refused.code(), Some("UNAUTHORIZED"));
    let unknown = rig.client.revoke_key("key_nobody").await.unwrap_err();
    assert_eq!(unknown.code(), Some("NOT_FOUND"));
    let forever = CreateApiKey {
        expires_in_seconds: Some(0),
        ..CreateApiKey::default()
    };
    let invalid = rig.client.create_key(&forever).await.unwrap_err();
    assert_eq!(invalid.code(), Some("VALIDATION_ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_tells_about_itself() {
    let rig = Rig::new().await;
    let root = rig.url.trim_end_matches("/api/v1").to_owned();
    for base in [root.as_str(), rig.url.as_str()] {
        let get = |path: &str| rig.http.get(format!("{base}{path}"));
        assert_eq!(answer(get("/health")).await.2["status"], "ok");
        assert_eq!(answer(get("/ready")).await.2["ready"], true);
        assert_eq!(answer(get("/openapi.json")).await.2["openapi"], "3.1.0");
    }
    rig.sandbox().await;
    let metrics = rig
        .http
        .get(format!("{root}/metrics"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "emberbox_sandboxes{state=\"error\"}",
        "emberbox_vms",
        "emberbox_sandbox_create_seconds_bucket{boot_path=\"on_demand\"",
        "emberbox_http_requests_total{method=\"POST\",route=\"/api/v1/sandboxes\",status=\"201\"}",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let (_, _, errors) = answer(rig.http.get(format!("{}/errors", rig.url))).await;
    assert_eq!(
        errors["data"].as_array().unwrap().len(),
        ErrorCode::ALL.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_is_served() {
    let rig = Rig::new().await;
    let (_, _, document) = answer(rig.http.get(format!("{}/openapi.json", rig.url))).await;
    let mut operations = 0;
    let mut names = HashSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name} is there twice");
            let path = path
                .replace("{id}", "sbx_nobody")
                .replace("{name}", "n")
                .replace("{path}", "p")
                .replace("{preview}", "pvw_nobody")
                .replace("{snapshot}", "snap_nobody")
                .replace("{share}", "shr_nobody")
                .replace("{pid}", "1")
                .replace("{user_id}", "usr_nobody")
                .replace("{context}", "c")
                .replace("{session_id}", "0");
            let request = rig.http.request(
                method.to_uppercase().parse().unwrap(),
                format!("{}{path}", rig.url),
            );
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            let body: Value = serde_json::from_str(&text).unwrap_or_default();
            assert_ne!(
                body["error"]["code"], "ROUTE_NOT_FOUND",
                "{method} {path}: {status}"
            );
            operations += 1;
        }
    }
    // The document itself is compared by `cargo xtask ci`.
    assert!(operations > 150, "{operations}");
}

#[tokio::test(flavor = "multi_thread")]
async fn templates() {
    let rig = Rig::new().await;
    let list = rig.client.list_templates().await.unwrap();
    assert_eq!(list.default_template_id, "miosa-sandbox");
    assert_eq!(list.data.len(), 7);
    let (_, _, all) = answer(rig.request("GET", "/sandbox-templates?include_aliases=true")).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 10);
    let (status, _, one) = answer(rig.request("GET", "/sandbox-templates/react-vite")).await;
    assert_eq!((status, &one["data"]["preview_port"]), (200, &5173.into()));
    let (status, code, _) = answer(rig.request("GET", "/sandbox-templates/windows")).await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_break_the_connection() {
    let rig = Rig::new().await;
    let address = rig.url.strip_prefix("http://").unwrap();
    let (address, _) = address.split_once('/').unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    // Refused by their route or their missing key, before anybody read a body
    // that comes late.
    for (path, status) in [("fs/write", 404), ("files", 401)] {
        let head = format!(
            "POST /api/v1/sandboxes/sbx_x/{path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 200000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&[b'x'; 200_000]).await.unwrap();
        let mut answer = Vec::new();
        // The body is the last of the answer, and it is JSON.
        while !answer.ends_with(b"}") {
            assert_ne!(connection.read_buf(&mut answer).await.unwrap(), 0);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_can_be_read_in_a_browser() {
    let rig = Rig::new().await;
    let root = rig.url.trim_end_matches("/api/v1");
    let get = |path: &str| rig.http.get(format!("{root}{path}")).send();
    let page = get("/docs").await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("swagger-ui-bundle.js"), "{page}");
    // Nothing of it comes from elsewhere.
    assert!(!page.contains("https://"), "{page}");
    let script = get("/docs/swagger-ui-bundle.js").await.unwrap();
    assert_eq!(script.status(), 200);
    let start = get("/docs/swagger-initializer.js").await.unwrap();
    let start = start.text().await.unwrap();
    assert!(start.contains("/openapi.json"), "{start}");
}
