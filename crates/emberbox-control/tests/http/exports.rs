//! Files taken out of a sandbox.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Rig, answer};

async fn describe(rig: &Rig, sandbox: &str, body: Value) -> Value {
    let path = format!("/sandboxes/{sandbox}/exports");
    let (status, _, body) = answer(rig.request("POST", &path).json(&body)).await;
    assert_eq!(status, 201, "{body}");
    body["data"].clone()
}

/// The download an export names: its headers and bytes.
async fn download(rig: &Rig, url: &Value) -> (reqwest::header::HeaderMap, Vec<u8>) {
    let path = url.as_str().unwrap().strip_prefix("/api/v1").unwrap();
    let response = rig.request("GET", path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    (headers, response.bytes().await.unwrap().to_vec())
}

/// What an archive holds, by name.
fn unpack(archive: &[u8], into: &Path) {
    fs::create_dir_all(into).unwrap();
    let file = into.join("archive");
    fs::write(&file, archive).unwrap();
    let mut tar = Command::new("tar");
    let done = tar.arg("-xzf").arg(&file).arg("-C").arg(into).status();
    assert!(done.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_comes_as_it_is_and_several_as_an_archive() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id.to_string();
    let dir = rig.path("out");
    fs::create_dir_all(format!("{dir}/it's -deep")).unwrap();
    fs::write(format!("{dir}/a.bin"), [0, 255, b'\n', 7]).unwrap();
    fs::write(format!("{dir}/it's -deep/b.txt"), "b").unwrap();
    let file = format!("{dir}/a.bin");

    let one = describe(&rig, &id, json!({"path": file, "label": "result"})).await;
    assert_eq!(
        (&one["status"], &one["label"]),
        (&json!("ready"), &json!("result"))
    );
    assert_eq!(
        (&one["files"][0]["size"], &one["files"][0]["is_dir"]),
        (&json!(4), &json!(false))
    );
    let (headers, bytes) = download(&rig, &one["files"][0]["download_url"]).await;
    assert_eq!(bytes, [0, 255, b'\n', 7]);
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["content-length"], "4");
    assert!(
        headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("a%2Ebin")
    );

    let paths = json!({"paths": [file, format!("{dir}/it's -deep")], "filename": "all.tgz"});
    let both = describe(&rig, &id, paths).await;
    let (headers, bytes) = download(&rig, &both["archive_download_url"]).await;
    assert!(
        headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("all%2Etgz")
    );
    let into = rig.dir.path().join("unpacked");
    unpack(&bytes, &into);
    let there = |name: &str| fs::read(into.join(dir.trim_start_matches('/')).join(name)).unwrap();
    assert_eq!(there("a.bin"), [0, 255, b'\n', 7]);
    assert_eq!(there("it's -deep/b.txt"), b"b");
    // A directory alone is an archive too.
    let (_, bytes) = download(&rig, &both["files"][1]["download_url"]).await;
    unpack(&bytes, &rig.dir.path().join("again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_directory_comes_whole() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id.to_string();
    let dir = rig.path("large");
    fs::create_dir_all(&dir).unwrap();
    // Noise, so that packing makes nothing of it small.
    let noise: Vec<u8> = (0..3_000_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::write(format!("{dir}/noise"), &noise).unwrap();
    let export = describe(&rig, &id, json!({"path": dir})).await;
    let (_, bytes) = download(&rig, &export["files"][0]["download_url"]).await;
    let into = rig.dir.path().join("unpacked");
    unpack(&bytes, &into);
    assert_eq!(
        fs::read(into.join(dir.trim_start_matches('/')).join("noise")).unwrap(),
        noise
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_before_anything_is_sent() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id.to_string();
    let post = |body: Value| {
        let request = rig.request("POST", &format!("/sandboxes/{id}/exports"));
        answer(request.json(&body))
    };
    let name = "x".repeat(256);
    for (body, expected) in [
        (json!({}), (400, "MISSING_PARAM")),
        (json!({"paths": []}), (400, "MISSING_PARAM")),
        (json!({"path": "relative"}), (422, "INVALID_PATH")),
        (json!({"path": "/no/such/file"}), (404, "FILE_NOT_FOUND")),
        (
            json!({"paths": ["/tmp", "/no/such/file"]}),
            (404, "FILE_NOT_FOUND"),
        ),
        (
            json!({"paths": vec!["/tmp"; 101]}),
            (422, "VALIDATION_ERROR"),
        ),
        (
            json!({"path": "/tmp", "filename": "a/b"}),
            (422, "VALIDATION_ERROR"),
        ),
        (
            json!({"path": "/tmp", "label": name}),
            (422, "VALIDATION_ERROR"),
        ),
    ] {
        let (status, code, _) = post(body.clone()).await;
        assert_eq!((status, code.as_str()), expected, "{body}");
    }
    for (query, expected) in [
        ("", (400, "MISSING_PARAM")),
        ("path=relative", (422, "INVALID_PATH")),
        ("path=%2Fno%2Fsuch", (404, "FILE_NOT_FOUND")),
        (
            "paths[]=%2Ftmp&paths%5B%5D=%2Fno%2Fsuch",
            (404, "FILE_NOT_FOUND"),
        ),
    ] {
        let path = format!("/sandboxes/{id}/exports/download?{query}");
        let (status, code, _) = answer(rig.request("GET", &path)).await;
        assert_eq!((status, code.as_str()), expected, "{query}");
    }
    rig.client.destroy_sandbox(&id).await.unwrap();
    let (_, code, _) = post(json!({"path": "/tmp"})).await;
    assert_eq!(code, "SANDBOX_NOT_RUNNING");
}
