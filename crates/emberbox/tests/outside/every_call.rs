//! Every call that names a sandbox, for whoever must not get through with any.

use serde_json::{Value, json};

use crate::answers::Answer;
use crate::rig::api::Api;

/// What a command leaves behind that was let in.
const INTRUDER: &str = "touch /tmp/intruder";

/// A preview and a share that nobody has.
const PREVIEW: &str = "/previews/pvw_00000000000000000000000000";
const SHARE: &str = "/shares/shr_00000000000000000000000000";

/// Calls that say what is recorded, whatever the sandbox does; the rest is
/// work that only a running one does.
pub(crate) const TELL: [&str; 15] = [
    "GET ",
    "GET /readiness",
    "GET /readiness/stream",
    "GET /events",
    "GET /artifacts",
    "GET /logs",
    "GET /logs/stream",
    "GET /usage",
    "GET /metrics",
    "GET /resources",
    "GET /env",
    "GET /previews",
    "GET /shares",
    "POST /shares",
    "POST /preview-token",
];

/// Calls about a part that is not there, whatever the sandbox does.
pub(crate) const LACK: [&str; 5] = [
    "GET /preview",
    "DELETE /preview",
    "POST /preview/share",
    "DELETE /preview/share",
    "DELETE /share",
];

/// Makes them all, the destroy last.
pub(crate) fn every_call(api: &Api, id: &str) -> Vec<(String, Answer)> {
    let at = |rest: &str| format!("/sandboxes/{id}{rest}");
    let short = |rest: &str| rest.replace(PREVIEW, "/preview").replace(SHARE, "/share");
    let mut calls = Vec::new();
    for rest in [
        "",
        "/readiness",
        "/readiness/stream",
        "/files/etc%2Fpasswd",
        "/files?path=/",
        "/files/tree?path=/",
        "/events",
        "/artifacts",
        "/logs",
        "/logs/stream",
        "/processes",
        "/processes/1",
        "/processes/1/logs",
        "/processes/1/stream",
        "/previews",
        PREVIEW,
        "/shares",
        "/usage",
        "/metrics",
        "/resources",
        "/exports/download?path=/etc/passwd",
        "/exports/download?paths[]=/etc",
        "/commands",
        "/commands/1",
        "/commands/1/logs",
        "/code/contexts",
        "/env",
    ] {
        calls.push((format!("GET {}", short(rest)), api.get(&at(rest))));
    }
    for (rest, body) in posts() {
        let answer = api.post(&at(&rest), &body);
        calls.push((format!("POST {}", short(&rest)), answer));
    }
    let upload = api.upload(id, "/tmp/intruder", b"x");
    calls.push(("POST /files".to_owned(), upload));
    let form = api.upload_form(id, "/tmp/intruder", b"x");
    calls.push(("POST /files as a form".to_owned(), form));
    for rest in [
        "/processes/1",
        "/terminal/0123456789abcdef",
        PREVIEW,
        &format!("{PREVIEW}/share"),
        SHARE,
        "/code/contexts/default",
        "/code",
        "/env/INTRUDER",
        "",
    ] {
        calls.push((format!("DELETE {}", short(rest)), api.delete(&at(rest))));
    }
    calls
}

/// What is posted, each with a body that is as it should be.
fn posts() -> Vec<(String, Value)> {
    let file = json!({ "files": [{ "path": "/tmp/intruder", "content": "eA==" }] });
    let posts = [
        ("/exec", json!({ "command": INTRUDER })),
        ("/exec/stream", json!({ "command": INTRUDER })),
        ("/files/stat", json!({ "path": "/etc" })),
        ("/files/write-many", file.clone()),
        ("/files/batch", file),
        ("/processes", json!({ "command": INTRUDER })),
        ("/processes/1/signal", json!({ "signal": "SIGKILL" })),
        ("/processes/1/stdin", json!({ "data": "x" })),
        ("/terminal", json!({ "shell": INTRUDER })),
        ("/template/start", json!({ "start_command": INTRUDER })),
        ("/deploy", json!({ "name": "intruder" })),
        ("/expose", json!({ "port": 8000 })),
        ("/previews", json!({ "port": 8000 })),
        ("/shares", json!({})),
        ("/preview-token", json!({})),
        ("/exports", json!({ "path": "/etc" })),
        ("/commands", json!({ "command": INTRUDER })),
        ("/commands/1/kill", json!({})),
        (
            "/code/run",
            json!({ "code": format!("import os; os.system('{INTRUDER}')") }),
        ),
    ];
    let mut posts: Vec<_> = posts.map(|(rest, body)| (rest.to_owned(), body)).into();
    posts.push((format!("{PREVIEW}/share"), json!({})));
    posts
}
