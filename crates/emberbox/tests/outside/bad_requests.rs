//! Requests that cannot be served: each has its status and code, and changes
//! nothing.

use serde_json::{Value, json};

use crate::every_call::{LACK, TELL, every_call};
use crate::rig::Rig;
use crate::rig::sandbox::{Ran, Sandbox};

/// Shaped like an identifier, and nobody's.
pub(crate) const NOBODYS: &str = "sbx_00000000000000000000000000";

pub(crate) fn bodies(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let before = api.live();
    let exec = sandbox.at("/exec");
    let own = [
        "/exec",
        "/exec/stream",
        "/files",
        "/files/stat",
        "/files/write-many",
        "/processes",
        "/terminal",
        "/template/start",
        "/deploy",
        "/expose",
        "/previews",
        "/shares",
        "/preview-token",
    ];
    let others = ["/sandboxes", "/api-keys", "/auth/sse-ticket"];
    for path in own
        .map(|rest| sandbox.at(rest))
        .iter()
        .map(String::as_str)
        .chain(others)
    {
        let post = |body: &str| api.post_bytes(path, "application/json", body.as_bytes());
        for body in [
            "{",
            "{\"a\":1,}",
            "nonsense",
            "{\"a\":\"\u{1}\"}",
            "{} {}",
            "{\"a\":",
        ] {
            let answer = post(body);
            assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text());
            answer.refused(400, "INVALID_JSON");
        }
        for body in ["[]", "1", "null", "\"text\""] {
            post(body).names("body");
        }
    }
    // Without content type it is JSON all the same.
    let answer = api.post_bytes(&exec, "text/plain", br#"{"command":"echo hi"}"#);
    assert_eq!(answer.ok(200)["data"]["stdout"], "hi\n");
    let long = format!("{{\"command\":\"{}\"}}", "x".repeat(2 << 20));
    let answer = api.post_bytes(&exec, "application/json", long.as_bytes());
    answer.refused(413, "BODY_TOO_LARGE");
    assert_eq!(api.live(), before);
    assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
}

pub(crate) fn creates(rig: &Rig) {
    let api = rig.api();
    let before = api.live();
    let wrong: &[(&str, Value)] = &[
        ("cpu_count", json!(0)),
        ("cpu_count", json!(5)),
        ("cpu_count", json!(-1)),
        ("cpu_count", json!(1.5)),
        ("cpu_count", json!("two")),
        ("memory_mb", json!(127)),
        ("memory_mb", json!(8193)),
        ("memory_mb", json!(i64::MAX)),
        ("disk_mb", json!(63)),
        ("disk_mb", json!(10_241)),
        ("disk_size_mb", json!(10_241)),
        ("timeout_sec", json!(0)),
        ("timeout_sec", json!(30 * 24 * 3600 + 1)),
        ("timeout_sec", json!(true)),
        ("idle_timeout_sec", json!(-1)),
        ("size", json!("enormous")),
        ("template_id", json!(7)),
        ("metadata", json!("text")),
        ("tags", json!("text")),
        ("name", json!("")),
        ("name", json!("x".repeat(256))),
        ("slug", json!("Not A Label")),
        ("workspace_id", json!("7")),
        (
            "workspace_id",
            json!("00000000-0000-0000-0000-000000000000"),
        ),
    ];
    for (field, value) in wrong {
        api.post("/sandboxes", &json!({ *field: value }))
            .names(field);
    }
    api.post("/sandboxes", &json!({ "tags": ["a,b"] }))
        .names("tags[0]");
    api.post("/sandboxes", &json!({ "env": { "A=B": "x" } }))
        .names("env.A=B");
    api.post("/sandboxes", &json!({ "env": { "A": 1 } }))
        .names("env.A");
    api.post("/sandboxes", &json!({ "size": "small", "cpu_count": 1 }))
        .names("cpu_count");
    api.post("/sandboxes?wait=soon", &json!({})).names("wait");
    // Everything that is wrong is named at once.
    let answer = api.post(
        "/sandboxes",
        &json!({ "cpu_count": 99, "memory_mb": 1, "disk_mb": 1 }),
    );
    for field in ["cpu_count", "memory_mb", "disk_mb"] {
        answer.names(field);
    }
    let answer = api.post("/sandboxes", &json!({ "template_id": "nobodys-template" }));
    answer.refused(400, "INVALID_TEMPLATE");
    let key = "k".repeat(256);
    let headers = [("idempotency-key", key.as_str())];
    let answer = api.try_post("/sandboxes", &json!({}), &headers).unwrap();
    answer.names("Idempotency-Key");
    assert_eq!(api.live(), before);
}

pub(crate) fn execs(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let wrong = [
        ("command", json!({})),
        ("command", json!({ "command": "  " })),
        ("command", json!({ "command": 5 })),
        ("command", json!({ "command": ["touch", "/tmp/ran"] })),
        ("command", json!({ "command": "touch /tmp/ran\u{0}" })),
        (
            "command",
            json!({ "command": format!("touch /tmp/ran; : {}", "x".repeat(131_072)) }),
        ),
        (
            "timeout",
            json!({ "command": "touch /tmp/ran", "timeout": 0 }),
        ),
        (
            "timeout",
            json!({ "command": "touch /tmp/ran", "timeout": 301 }),
        ),
        (
            "timeout",
            json!({ "command": "touch /tmp/ran", "timeout": "5" }),
        ),
        ("cwd", json!({ "command": "touch /tmp/ran", "cwd": "tmp" })),
        (
            "working_dir",
            json!({ "command": "touch /tmp/ran", "working_dir": "/t\u{0}" }),
        ),
        (
            "working_dir",
            json!({ "command": "touch /tmp/ran", "working_dir": "/none" }),
        ),
        (
            "env.",
            json!({ "command": "touch /tmp/ran", "env": { "": "x" } }),
        ),
        (
            "env.A",
            json!({ "command": "touch /tmp/ran", "env": { "A": "\u{0}" } }),
        ),
        (
            "env",
            json!({ "command": "touch /tmp/ran", "env": ["A=B"] }),
        ),
    ];
    for (field, body) in wrong {
        api.post(&sandbox.at("/exec"), &body).names(field);
    }
    sandbox.lacks("/tmp/ran");
}

pub(crate) fn keys(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    for key in ["nobody", "ebx_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        for (call, answer) in every_call(&api.with_key(key), &sandbox.id) {
            assert_eq!(answer.status, 401, "{call}: {}", answer.text());
            answer.refused(401, "UNAUTHORIZED");
        }
    }
    let right = api.key.as_str();
    let at = |rest: &str| format!("/api/v1/sandboxes{rest}");
    let id = &sandbox.id;
    for (method, path) in [
        ("GET", at("")),
        ("POST", at("")),
        ("GET", at(&format!("/{id}"))),
        ("DELETE", at(&format!("/{id}"))),
        ("GET", "/api/v1/whoami".to_owned()),
        ("GET", "/api/v1/api-keys".to_owned()),
        ("GET", "/api/v1/sandbox-templates".to_owned()),
    ] {
        for header in [
            None,
            Some(""),
            Some("Bearer"),
            Some(right),
            Some("Basic eDp5"),
        ] {
            api.anything(method, &path, header)
                .refused(401, "UNAUTHORIZED");
        }
    }
    // A key works until it is revoked, and its secret is shown once.
    let made = api
        .post("/api-keys", &json!({ "name": "short lived" }))
        .ok(201);
    let secret = made["data"]["key"].as_str().unwrap();
    assert!(!api.get("/api-keys").text().contains(secret));
    let second = api.with_key(secret);
    assert_eq!(second.get(&sandbox.at("")).ok(200)["id"], sandbox.id);
    let answer = api.delete(&format!(
        "/api-keys/{}",
        made["data"]["id"].as_str().unwrap()
    ));
    assert_eq!(answer.status, 204);
    second.get(&sandbox.at("")).refused(401, "UNAUTHORIZED");

    assert_eq!(api.live(), [sandbox.id.as_str()]);
    sandbox.lacks("/tmp/intruder");
}

pub(crate) fn routes(rig: &Rig) {
    let api = rig.api();
    let bearer = format!("Bearer {}", api.key);
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/api/v1"),
        ("GET", "/api/v2/sandboxes"),
        ("GET", "/api/v1/nothing/here"),
        ("PUT", "/api/v1/sandboxes"),
        ("PUT", "/api/v1/sandboxes/x"),
        ("DELETE", "/api/v1/sandboxes"),
        ("POST", "/api/v1/sandboxes/x/fs/write"),
        ("GET", "/api/v1/sandboxes/x/fs/download?path=/etc"),
    ] {
        api.anything(method, path, Some(&bearer))
            .refused(404, "ROUTE_NOT_FOUND");
        api.anything(method, path, None)
            .refused(404, "ROUTE_NOT_FOUND");
    }
    for path in [
        "/health",
        "/ready",
        "/metrics",
        "/openapi.json",
        "/api/v1/errors",
    ] {
        let answer = api.anything("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for id in [NOBODYS, "x", "sbx_", "..", "%2e%2e%2fetc"] {
        for (call, answer) in every_call(&api, id) {
            assert_eq!(answer.status, 404, "{call} of {id}: {}", answer.text());
            answer.refused(404, "NOT_FOUND");
        }
    }
    api.delete("/api-keys/key_00000000000000000000000000")
        .refused(404, "NOT_FOUND");
    api.get("/sandbox-templates/nobodys")
        .refused(404, "NOT_FOUND");
}

pub(crate) fn unknown_fields(rig: &Rig) {
    let api = rig.api();
    let body = json!({
        "timeout_sec": 3600, "nobody": { "knows": ["this", null] }, "region": "moon", "wait": 7,
    });
    let sandbox = Sandbox::with(&api, &body);
    assert!(sandbox.record.get("nobody").is_none());
    let ran = sandbox.exec_with(&json!({ "command": "echo hi", "shell": "zsh", "tty": {} }));
    assert_eq!(ran, Ran::ok("hi\n"));
    let upload =
        json!({ "encoding": ["x", { "y": 1 }], "path": "/tmp/f", "content": "aGk=", "z": 1 });
    assert_eq!(
        api.post(&sandbox.at("/files"), &upload).ok(200)["data"]["size"],
        2
    );
    let stat = api.post(
        &sandbox.at("/files/stat"),
        &json!({ "path": "/tmp/f", "follow": true }),
    );
    assert_eq!(stat.ok(200)["data"]["size"], 2);
}

pub(crate) fn not_running(rig: &Rig) {
    let api = rig.api();
    let refuses_work = |id: &str| {
        for (call, answer) in every_call(&api, id) {
            let call = call.as_str();
            if TELL.contains(&call) || call == "DELETE " {
                assert!(answer.status < 300, "{call}: {}", answer.text());
            } else if LACK.contains(&call) {
                answer.refused(404, "NOT_FOUND");
            } else {
                assert_eq!(answer.status, 409, "{call}: {}", answer.text());
                answer.refused(409, "SANDBOX_NOT_RUNNING");
            }
        }
    };
    let record = api.post("/sandboxes?wait=0", &json!({})).ok(201);
    assert_eq!(record["state"], "provisioning", "{record}");
    let starting = Sandbox::known(&api, record);
    let answer = api.post(&starting.at("/exec"), &json!({ "command": "true" }));
    let error = answer.refused(409, "SANDBOX_NOT_RUNNING");
    assert_eq!(error["retryable"], true, "{error}");
    assert!(error["retry_after_ms"].as_u64().unwrap() > 0, "{error}");
    starting.runs();
    assert_eq!(starting.exec("echo alive"), Ran::ok("alive\n"));
    // One that is destroyed before it ever ran is destroyed.
    let record = api.post("/sandboxes?wait=0", &json!({})).ok(201);
    let never = Sandbox::known(&api, record);
    for sandbox in [starting, never] {
        let id = sandbox.id.clone();
        sandbox.destroy();
        refuses_work(&id);
        assert_eq!(
            api.get(&format!("/sandboxes/{id}")).ok(200)["state"],
            "destroyed"
        );
    }
}
