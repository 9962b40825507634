//! Interpreters and exports of a real guest.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::Rig;
use crate::rig::sandbox::Sandbox;

#[track_caller]
fn run(sandbox: &Sandbox<'_>, body: &Value) -> Value {
    let answer = sandbox.api.post(&sandbox.at("/code/run"), body).ok(200);
    answer["data"].clone()
}

pub(crate) fn contexts(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    for (language, first, second) in [
        (
            "python",
            "import json\nx = [1]\nprint('hi')",
            "x.append(2)\nx",
        ),
        (
            "javascript",
            "const x = [1]; console.log('hi')",
            "x.push(2); x",
        ),
    ] {
        let said = run(&sandbox, &json!({ "code": first, "language": language }));
        assert_eq!(
            (&said["ok"], &said["stdout"]),
            (&json!(true), &json!("hi\n")),
            "{said}"
        );
        let said = run(&sandbox, &json!({ "code": second, "language": language }));
        assert_eq!(said["result"], json!([1, 2]), "{said}");
    }
    let forever = json!({ "code": "while True: pass", "timeout": 2 });
    let answer = api.post(&sandbox.at("/code/run"), &forever);
    answer.refused(504, "EXEC_TIMEOUT");
    let again = run(&sandbox, &json!({ "code": "'x' in globals()" }));
    assert_eq!(again["result"], false);
    let kept = run(&sandbox, &json!({ "code": "x", "language": "javascript" }));
    assert_eq!(kept["result"], json!([1, 2]));
    let listed = api
        .get(&sandbox.at("/code/contexts?language=javascript"))
        .ok(200);
    assert_eq!(listed["data"]["contexts"], json!(["default"]));
    assert_eq!(api.delete(&sandbox.at("/code")).status, 204);
    let left = sandbox.exec("pgrep -x node; pgrep -x python3").stdout;
    assert_eq!(left, "", "interpreters are left");
}

pub(crate) fn exports(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    sandbox.say("mkdir -p /workspace/out/deep && cd /workspace/out && head -c 3000000 /dev/urandom > noise && echo text > 'deep/a b' && sha256sum noise > sum");
    let body = json!({ "path": "/workspace/out" });
    let export = api.post(&sandbox.at("/exports"), &body).ok(201)["data"].clone();
    let url = export["files"][0]["download_url"].as_str().unwrap();
    let archive = api.get(url.strip_prefix("/api/v1").unwrap());
    assert_eq!(archive.status, 200, "{}", archive.text());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("archive.tar.gz");
    fs::write(&file, &archive.bytes).unwrap();
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("-xzf").arg(&file).arg("-C").arg(directory.path());
    assert!(unpacked.status().unwrap().success());
    let out = directory.path().join("workspace/out");
    assert_eq!(fs::read_to_string(out.join("deep/a b")).unwrap(), "text\n");
    let mut check = Command::new("sha256sum");
    let checked = check.args(["--check", "--quiet", "sum"]).current_dir(&out);
    assert!(checked.status().unwrap().success());

    let one = api.get(&sandbox.at("/exports/download?path=/workspace/out/sum"));
    assert_eq!(one.bytes, fs::read(out.join("sum")).unwrap());
    api.get(&sandbox.at("/exports/download?path=/no/such"))
        .refused(404, "FILE_NOT_FOUND");
}
