//! File calls that cannot be served: each has its status and code, and
//! changes nothing.

use serde_json::json;

use crate::rig::api::form;
use crate::rig::sandbox::Sandbox;
use crate::rig::{Rig, eventually};

/// The largest file that may be uploaded.
const LIMIT: usize = 100 * 1024 * 1024;

pub(crate) fn paths(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let id = sandbox.id.as_str();
    let stat = |path: &str| api.post(&sandbox.at("/files/stat"), &json!({ "path": path }));
    let list = |query: &str| api.get(&sandbox.at(&format!("/files?path={query}")));
    let get = |encoded: &str| api.get(&sandbox.at(&format!("/files/{encoded}")));

    let long = format!("/{}", "x".repeat(4096));
    for path in [
        "",
        "relative/file",
        "./x",
        "~/x",
        "/tmp/a\u{0}b",
        long.as_str(),
    ] {
        api.upload(id, path, b"x").refused(422, "INVALID_PATH");
        stat(path).refused(422, "INVALID_PATH");
    }
    for path in ["relative", "/tmp/a\u{0}b", long.as_str()] {
        api.upload_form(id, path, b"x").refused(422, "INVALID_PATH");
    }
    list("relative").refused(422, "INVALID_PATH");
    list("/tmp%00").refused(422, "INVALID_PATH");
    get("tmp%2Fa%00b").refused(422, "INVALID_PATH");
    get("tmp%2F%FF").refused(422, "INVALID_PATH");
    list("/&depth=0").names("depth");
    list("/&depth=x").names("depth");

    get("no%2Fsuch").refused(404, "FILE_NOT_FOUND");
    list("/no/such").refused(404, "FILE_NOT_FOUND");
    stat("/no/such").refused(404, "FILE_NOT_FOUND");
    get("etc").refused(400, "IS_A_DIRECTORY");
    list("/etc/passwd").refused(400, "NOT_A_DIRECTORY");
    get("etc/passwd/x").refused(400, "NOT_A_DIRECTORY");
    get("dev/null").refused(400, "NOT_A_FILE");
    for path in ["/etc", "/etc/", "/", "/tmp/."] {
        api.upload(id, path, b"x").refused(400, "IS_A_DIRECTORY");
        api.upload_form(id, path, b"x")
            .refused(400, "IS_A_DIRECTORY");
    }
    api.upload(id, "/etc/passwd/x", b"x")
        .refused(400, "NOT_A_DIRECTORY");
    api.upload(id, "/dev/null", b"x").refused(400, "NOT_A_FILE");
    assert!(sandbox.say("cat /etc/passwd").starts_with("root:"));
    assert_eq!(
        sandbox.say("stat -c %F /etc /dev/null"),
        "directory\ncharacter special file"
    );
    assert_eq!(sandbox.names_in("/tmp"), Vec::<String>::new());
    assert_eq!(sandbox.say("find / -xdev -name '.emberbox-*'"), "");
}

pub(crate) fn uploads(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let files = sandbox.at("/files");
    sandbox.upload("/tmp/old", b"as it was");
    let base64 = ["!!!!", "QUJD*", "QU JD", "=", "QUJDRA=x"];
    for content in base64 {
        for body in [
            json!({ "path": "/tmp/old", "content": content }),
            json!({ "path": "/tmp/new/deep", "content": content }),
        ] {
            api.post(&files, &body).names("content");
        }
    }
    for (field, body) in [
        ("path", json!({ "content": "QUJD" })),
        ("path", json!({ "path": 7, "content": "QUJD" })),
        ("content", json!({ "path": "/tmp/new" })),
        ("content", json!({ "path": "/tmp/new", "content": null })),
        (
            "content",
            json!({ "path": "/tmp/old", "content": { "a": 1 } }),
        ),
    ] {
        api.post(&files, &body).names(field);
    }
    // JSON that breaks after the content had arrived whole.
    let broken = br#"{"path":"/tmp/old","content":"QUJD","#;
    let answer = api.post_bytes(&files, "application/json", broken);
    answer.refused(400, "INVALID_JSON");
    let broken = br#"{"path":"/tmp/old","content":"QUJD"} x"#;
    let answer = api.post_bytes(&files, "application/json", broken);
    answer.refused(400, "INVALID_JSON");

    let (content_type, body) = form(None, Some(b"x"));
    api.post_bytes(&files, &content_type, &body).names("path");
    let (content_type, body) = form(Some("/tmp/new"), None);
    api.post_bytes(&files, &content_type, &body).names("file");
    let (content_type, mut body) = form(Some("/tmp/old"), Some(b"changed"));
    body.truncate(body.len() - 12);
    let answer = api.post_bytes(&files, &content_type, &body);
    answer.refused(400, "INVALID_MULTIPART");
    let answer = api.post_bytes(&files, &content_type, b"no form at all");
    answer.refused(400, "INVALID_MULTIPART");

    assert_eq!(sandbox.say("cat /tmp/old"), "as it was");
    assert_eq!(sandbox.names_in("/tmp"), ["old"]);
}

pub(crate) fn over_the_limit(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let files = sandbox.at("/files");
    let used = "df --output=used -k / | tail -1";
    let before: i64 = sandbox.say(used).trim().parse().unwrap();

    // One byte more than the limit, as base64: a third more, padded.
    let mut json = br#"{"path":"/workspace/big","content":""#.to_vec();
    json.resize(json.len() + (LIMIT + 1).div_ceil(3) * 4 - 1, b'A');
    json.extend_from_slice(b"=\"}");
    let answer = api.post_bytes(&files, "application/json", &json);
    answer.refused(413, "FILE_TOO_LARGE");
    drop(json);
    let (content_type, body) = form(Some("/workspace/big"), Some(&vec![0; LIMIT + 1]));
    let answer = api.post_bytes(&files, &content_type, &body);
    answer.refused(413, "FILE_TOO_LARGE");
    drop(body);
    // The guest removes it when it hears that nothing more comes.
    eventually("nothing of it is left", || {
        sandbox.names_in("/workspace").is_empty().then_some(())
    });
    let after: i64 = sandbox
        .say(&format!("sync; {used}"))
        .trim()
        .parse()
        .unwrap();
    assert!(after - before < 1024, "{before} KiB were used, now {after}");

    // The limit itself is legal.
    let (content_type, body) = form(Some("/workspace/big"), Some(&vec![0; LIMIT]));
    let answer = api.post_bytes(&files, &content_type, &body);
    assert_eq!(answer.ok(200)["data"]["size"], LIMIT);
    assert_eq!(sandbox.names_in("/workspace"), ["big"]);
}
