//! Files in and out of a sandbox.

use std::fs::File;
use std::io::Read;

use serde_json::json;

use crate::rig::Rig;
use crate::rig::sandbox::Sandbox;

/// Larger than every buffer on the way.
const LARGE: usize = 5 * 1024 * 1024 + 1;

/// Bytes nobody has seen before.
fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    bytes
}

#[track_caller]
fn download(sandbox: &Sandbox<'_>, encoded: &str) -> Vec<u8> {
    let answer = sandbox.api.get(&sandbox.at(&format!("/files/{encoded}")));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.content_type.as_deref(),
        Some("application/octet-stream")
    );
    answer.bytes
}

pub(crate) fn round_trips(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    for length in [0, 1, LARGE] {
        let content = random(length);
        for (name, way) in [("json", false), ("form", true)] {
            let path = format!("/workspace/{name}-{length}");
            let answer = if way {
                api.upload_form(&sandbox.id, &path, &content)
            } else {
                api.upload(&sandbox.id, &path, &content)
            };
            let expected = json!({
                "data": { "sandbox_id": sandbox.id, "path": path, "size": length }
            });
            assert_eq!(answer.ok(200), expected);
            assert_eq!(sandbox.say(&format!("wc -c < {path}")), length.to_string());
            let encoded = format!("workspace%2F{name}-{length}");
            // Not assert_eq: nobody wants to read five megabytes.
            assert!(
                download(&sandbox, &encoded) == content,
                "{path} came back changed"
            );
        }
    }
    let same = format!("cmp /workspace/json-0 /workspace/form-0; wc -c < /workspace/form-{LARGE}");
    assert_eq!(sandbox.say(&same), LARGE.to_string());
    // No content type is guessed from a name.
    sandbox.upload("/workspace/data.json", b"{\"data\":1}");
    assert_eq!(download(&sandbox, "workspace/data.json"), b"{\"data\":1}");
    // A file that says it is empty and is not.
    assert!(download(&sandbox, "proc/version").starts_with(b"Linux"));
}

pub(crate) fn paths(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    sandbox.upload("/workspace/a/b c/ü#?%2F.txt", b"deep");
    for encoded in [
        "workspace%2Fa%2Fb%20c%2F%C3%BC%23%3F%252F.txt",
        "workspace/a/b%20c/%C3%BC%23%3F%252F.txt",
        "/workspace/a/b%20c/%C3%BC%23%3F%252F.txt",
    ] {
        assert_eq!(download(&sandbox, encoded), b"deep", "{encoded}");
    }
    assert_eq!(sandbox.say("cat '/workspace/a/b c/ü#?%2F.txt'"), "deep");
    // A file may be called like a route.
    sandbox.upload("/stat", b"a file");
    assert_eq!(download(&sandbox, "stat"), b"a file");
}

pub(crate) fn describe(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    sandbox.upload("/tmp/l/sub/deep.txt", b"123");
    sandbox.upload("/tmp/l/a.sh", b"#!/bin/sh\n");
    sandbox.say("chmod 0750 /tmp/l/a.sh; ln -s a.sh /tmp/l/link; touch -d @1700000000 /tmp/l/a.sh");
    let list = |query: &str| {
        let answer = api
            .get(&sandbox.at(&format!("/files?path={query}")))
            .ok(200);
        answer["data"].clone()
    };
    let flat = list("/tmp/l");
    assert_eq!(
        (&flat["path"], &flat["truncated"]),
        (&json!("/tmp/l"), &json!(false))
    );
    let entries = flat["entries"].as_array().unwrap();
    let names: Vec<_> = entries
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a.sh", "link", "sub"]);
    let kinds: Vec<_> = entries
        .iter()
        .map(|entry| entry["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["file", "symlink", "directory"]);
    let script = json!({
        "name": "a.sh", "path": "/tmp/l/a.sh", "is_dir": false, "type": "file", "size": 10,
        "mode": "0750", "uid": 0, "gid": 0,
    });
    let stat = sandbox.stat("/tmp/l/a.sh");
    for described in [&entries[0], &stat] {
        for (field, value) in script.as_object().unwrap() {
            assert_eq!(&described[field], value, "{field} of {described}");
        }
        let modified = described["modified_at"].as_str().unwrap();
        assert!(modified.starts_with("2023-11-14T22:13:20"), "{modified}");
    }
    assert_eq!(sandbox.stat("/tmp/l")["is_dir"], true);

    let deep = list("/tmp/l&depth=2");
    let paths: Vec<_> = deep["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["path"])
        .collect();
    assert_eq!(
        paths,
        [
            "/tmp/l/a.sh",
            "/tmp/l/link",
            "/tmp/l/sub",
            "/tmp/l/sub/deep.txt"
        ]
    );
    let standard = api.get(&sandbox.at("/files")).ok(200);
    assert_eq!(standard["data"]["path"], "/workspace");
}

pub(crate) fn overwrite(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let path = "/workspace/run.sh";
    sandbox.upload(path, b"#!/bin/sh\necho first\n");
    assert_eq!(sandbox.stat(path)["mode"], "0644");
    sandbox.say(&format!("chmod 0755 {path}"));
    sandbox.upload(path, b"#!/bin/sh\necho 2\n");
    assert_eq!(sandbox.stat(path)["mode"], "0755");
    assert_eq!(sandbox.say(path), "2");
    assert_eq!(sandbox.names_in("/workspace"), ["run.sh"]);
}
