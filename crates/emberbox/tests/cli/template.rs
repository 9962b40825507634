//! Templates and their builds.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::rig::{Server, answering_all, emberbox, emberbox_at, encoded, event, stderr, stdout};

const TIME: &str = "2026-05-13T10:00:00Z";

fn build(state: &str) -> Value {
    let ready = state == "ready";
    json!({ "data": {
        "id": "build_00000000000000000000000000",
        "sandbox_template_id": "tpl_00000000000000000000000000",
        "template_id": "tpl_00000000000000000000000000",
        "version": 1, "attempt": 1, "source_type": "build_spec", "state": state, "status": state,
        "image_id": ready.then_some("built-1"), "snapshot_manifest": null, "log_url": "/l",
        "error_code": (!ready).then_some("STEP_FAILED"),
        "error_message": (!ready).then_some("step 1 exited with 2"),
        "started_at": TIME, "finished_at": TIME, "duration_ms": 1500, "build_spec": {},
        "metadata": {}, "created_at": TIME, "inserted_at": TIME, "updated_at": TIME,
    } })
}

fn told(id: u32, name: &str, more: Value) -> String {
    let mut data = json!({ "id": id, "event": name, "state": name, "attempt": 1, "at": TIME });
    data.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    event("build_event", &data.to_string())
}

#[test]
fn a_build_is_made_and_followed_over_a_server_that_ends() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spec.json");
    let path = file.to_str().unwrap();
    let output = emberbox()
        .args(["template", "init", path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let again = emberbox()
        .args(["template", "init", path])
        .output()
        .unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("is there already"));

    for (end, code) in [("ready", 0), ("failed", 1)] {
        let streams = Mutex::new(0);
        let (url, lines) = answering_all(move |asked| {
            let answer = |status, body: Value| {
                let text = body.to_string();
                (
                    "application/json",
                    status,
                    Box::new(move || text) as Box<dyn FnOnce() -> String>,
                )
            };
            let line = &asked.line;
            if line.starts_with("GET /api/v1/sandbox-templates/hello ") {
                return answer(
                    "404 Not Found",
                    json!({ "error": {
                    "code": "NOT_FOUND", "message": "template not found", "details": null,
                    "request_id": "req_1",
                } }),
                );
            }
            if line.starts_with("POST /api/v1/sandbox-templates ") {
                let body: Value = serde_json::from_slice(&asked.body).unwrap();
                assert_eq!(
                    (&body["slug"], &body["build_spec"]["previewPort"]),
                    (&json!("hello"), &json!(8000))
                );
                return answer(
                    "201 Created",
                    json!({ "data": {
                    "id": "tpl_1", "name": "hello", "description": "", "image_id": null,
                    "category": "custom", "cpu_count": 1, "memory_mb": 1024, "disk_mb": 3072,
                    "workdir": "/workspace", "artifact_paths": [],
                } }),
                );
            }
            if line.contains("/logs/stream") {
                let mut streams = streams.lock().unwrap();
                *streams += 1;
                // The first connection breaks in the middle.
                let events = if *streams == 1 {
                    told(1, "building", json!({}))
                        + &told(
                            2,
                            "step",
                            json!({ "step": 0, "command": "make", "cached": true }),
                        )
                        + &told(3, "log", json!({ "step": 0, "line": "\u{1b}[1mout" }))
                } else {
                    assert!(
                        asked.headers.contains("last-event-id: 3"),
                        "{}",
                        asked.headers
                    );
                    told(4, end, json!({}))
                };
                return ("text/event-stream", "200 OK", Box::new(move || events));
            }
            answer("200 OK", build(end))
        });
        let mut command = emberbox_at(&url, &["template", "build", "hello", "--file", path]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let said = stderr(&output);
        for part in ["building", "[1] make (cached)", "[1] \\u{1b}[1mout"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let shown = stdout(&output);
        assert!(shown.contains(&format!("state      {end}\n")), "{shown}");
        let last = if code == 0 {
            "image      built-1"
        } else {
            "step 1 exited with 2 (STEP_FAILED)"
        };
        assert!(shown.contains(last), "{shown}");
        let lines = lines.lock().unwrap();
        assert!(lines.iter().any(|line| line.starts_with(&format!(
            "POST /api/v1/sandbox-templates/{}/builds ",
            encoded("tpl_1")
        ))));
    }
}

#[test]
fn a_spec_is_checked_and_every_error_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spec.json");
    std::fs::write(&file, r#"{"from": "alpine"}"#).unwrap();
    let arguments = ["template", "validate", file.to_str().unwrap()];
    let answer = r#"{"valid":false,"errors":[
        {"code":"UNSUPPORTED_BASE_IMAGE","field":"from","message":"names no such family"},
        {"code":"OUT_OF_RANGE","field":"vcpu","message":"must be between 1 and 4"}]}"#;
    let output = Server::answering("200 OK", answer).call(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "from: names no such family (UNSUPPORTED_BASE_IMAGE)\n\
         vcpu: must be between 1 and 4 (OUT_OF_RANGE)\n"
    );
    let server = Server::answering("200 OK", r#"{"valid":true,"build_spec":{"from":"debian"}}"#);
    let output = server.call(&arguments);
    assert_eq!(stdout(&output), "{\n  \"from\": \"debian\"\n}\n");
    let body: Value = serde_json::from_slice(&server.asked().body).unwrap();
    assert_eq!(body, json!({ "build_spec": { "from": "alpine" } }));
    let output = Server::answering("200 OK", "{}").call(&["template", "validate", "/absent"]);
    assert!(stderr(&output).contains("cannot read /absent"));
}

#[test]
fn a_dockerfile_becomes_a_spec_and_what_is_left_out_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("Dockerfile");
    std::fs::write(
        &file,
        "FROM debian\nCOPY . /app\nRUN make\nCMD [\"serve\"]\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let output = emberbox()
        .args(["template", "import", path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let spec: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(
        (&spec["from"], &spec["startCmd"]),
        (&json!("debian"), &json!("serve"))
    );
    assert!(stderr(&output).starts_with(&format!("{path}:2: COPY has no place")));
}

#[test]
fn the_platforms_are_built_one_after_the_other() {
    let template = |id: &str, more: Value| {
        let mut template = json!({
            "id": id, "name": id, "description": "", "image_id": "miosa-sandbox",
            "category": "web", "cpu_count": 1, "memory_mb": 1024, "disk_mb": 3072,
            "workdir": "/workspace", "artifact_paths": [],
        });
        let more = more.as_object().unwrap().clone();
        template.as_object_mut().unwrap().extend(more);
        template
    };
    let spec = json!({ "from": "miosa-sandbox" });
    let list = json!({ "default_template_id": "miosa-sandbox", "data": [
        template("miosa-sandbox", json!({})),
        template("python", json!({ "build_spec": spec })),
        template("gradio", json!({ "build_spec": spec })),
        template("tpl_1", json!({ "build_spec": spec, "slug": "mine" })),
    ] });
    // The first fails, which keeps nobody from the second.
    for (arguments, states) in [
        (vec!["--all"], ["failed", "ready"]),
        (vec!["gradio", "python"], ["ready", "ready"]),
    ] {
        let list = list.clone();
        let begun = Mutex::new(0);
        let (url, lines) = answering_all(move |asked| {
            let answer = |body: Value| {
                let text = body.to_string();
                let text = Box::new(move || text) as Box<dyn FnOnce() -> String>;
                ("application/json", "200 OK", text)
            };
            let line = &asked.line;
            if line.starts_with("GET /api/v1/sandbox-templates ") {
                return answer(list.clone());
            }
            let mut begun = begun.lock().unwrap();
            if line.starts_with("POST") {
                *begun += 1;
            }
            let state = states[*begun - 1];
            if line.contains("/logs/stream") {
                let events = told(1, state, json!({}));
                return ("text/event-stream", "200 OK", Box::new(move || events));
            }
            answer(build(state))
        });
        let mut command = emberbox_at(&url, &["template", "seed"]);
        let output = command.args(&arguments).output().unwrap();
        let failed = states.contains(&"failed");
        assert_eq!(output.status.code(), Some(i32::from(failed)));
        let said = stderr(&output);
        assert_eq!(said.contains("not built: python"), failed, "{said}");
        let lines = lines.lock().unwrap();
        let posts = lines.iter().filter(|line| line.starts_with("POST"));
        let order = if failed {
            ["python", "gradio"]
        } else {
            ["gradio", "python"]
        };
        let expected = order.map(|name| format!("/api/v1/admin/sandbox-templates/{name}/builds"));
        let asked: Vec<_> = posts
            .map(|line| line.split(' ').nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(asked, expected);
    }
    let nothing = Server::answering("200 OK", "{}").call(&["template", "seed"]);
    assert!(
        stderr(&nothing).contains("<TEMPLATE>"),
        "{}",
        stderr(&nothing)
    );
}
