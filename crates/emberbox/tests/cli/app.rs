//! Apps: their start, their addresses, their processes.

use serde_json::{Value, json};

use crate::rig::{SANDBOX, Server, emberbox, encoded, stderr, stdout};

#[test]
fn an_app_is_started_as_asked() {
    let answer = json!({ "data": {
        "status": "started", "ready": true, "template_id": "react-vite", "workdir": "/workspace",
        "preview_port": 5173, "preview_url": "http://x.test", "logs_path": "/l", "pid_path": "/p",
        "pid": 7, "artifact_paths": [],
    } });
    let server = Server::answering("200 OK", &answer.to_string());
    let output = server.call(&[
        "sandbox",
        "start",
        SANDBOX,
        "--port",
        "5173",
        "--install",
        "npm ci",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "url        http://x.test\nready      yes\npid        7\n\
         workdir    /workspace\nlog        /l\n"
    );
    let asked = server.asked();
    let path = format!(
        "POST /api/v1/sandboxes/{}/template/start ",
        encoded(SANDBOX)
    );
    assert!(asked.line.starts_with(&path), "{}", asked.line);
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body, json!({ "port": 5173, "install_command": "npm ci" }));

    let server = Server::answering("200 OK", &answer.to_string());
    server.call(&["sandbox", "start", SANDBOX, "--no-install", "--restart"]);
    let body: Value = serde_json::from_slice(&server.asked().body).unwrap();
    assert_eq!(body, json!({ "install": false, "restart": true }));
}

#[test]
fn a_ports_address_is_printed() {
    let answer = r#"{"url":"http://8000-x.test","preview_url":"http://8000-x.test"}"#;
    for arguments in [
        &["sandbox", "expose", SANDBOX, "8000"][..],
        &["sandbox", "open", SANDBOX, "8000", "--print"],
        &["sandbox", "open", SANDBOX, "8000"],
    ] {
        let server = Server::answering("200 OK", answer);
        let mut command = server.command(arguments);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        let output = command.output().unwrap();
        assert_eq!(stdout(&output), "http://8000-x.test\n", "{arguments:?}");
        assert_eq!(stderr(&output), "", "{arguments:?}");
        let asked = server.asked();
        assert!(asked.line.contains("/expose "), "{}", asked.line);
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!(body, json!({ "port": 8000 }));
    }
}

#[test]
fn a_display_gets_a_browser() {
    let directory = tempfile::tempdir().unwrap();
    let (browser, seen) = (
        directory.path().join("xdg-open"),
        directory.path().join("seen"),
    );
    let script = format!("#!/bin/sh\nprintf %s \"$1\" > {}\n", seen.display());
    std::fs::write(&browser, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&browser, executable).unwrap();
    let answer = r#"{"url":"http://x.test","preview_url":"http://x.test"}"#;
    let open = |path: &std::path::Path| {
        let server = Server::answering("200 OK", answer);
        let mut command = server.command(&["sandbox", "open", SANDBOX]);
        let output = command.env("DISPLAY", ":0").env("PATH", path).output();
        output.unwrap()
    };
    let output = open(directory.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(seen).unwrap(), "http://x.test");
    // Without a browser the address is all there is.
    let output = open(std::path::Path::new("/nowhere"));
    assert!(output.status.success());
    assert_eq!(stdout(&output), "http://x.test\n");
    assert!(stderr(&output).contains("xdg-open"));
}

fn deployment() -> Value {
    json!({
        "id": "dep_01j9xr2t4fk8me3n5qv7w8x9y0", "deployment_id": "dep_01j9xr2t4fk8me3n5qv7w8x9y0",
        "tenant_id": "tnt_01j9xr2t4fk8me3n5qv7w8x9y0", "sandbox_id": SANDBOX, "name": "My app",
        "slug": "my-app-a1", "state": "running", "port": 8000, "url": "http://my-app-a1.t.test",
        "public_url": "http://app.example.com", "custom_domain": "app.example.com",
        "created_at": "2026-01-02T03:04:05.000Z", "updated_at": "2026-01-02T03:04:05.000Z",
    })
}

#[test]
fn a_deployment_is_made_shown_and_taken_down() {
    let server = Server::answering("201 Created", &deployment().to_string());
    let output = server.call(&[
        "sandbox",
        "deploy",
        SANDBOX,
        "--name",
        "My app",
        "--port",
        "8000",
        "--domain",
        "app.example.com",
    ]);
    assert_eq!(
        stdout(&output),
        "http://app.example.com\n",
        "{}",
        stderr(&output)
    );
    let body: Value = serde_json::from_slice(&server.asked().body).unwrap();
    assert_eq!(
        body,
        json!({ "name": "My app", "port": 8000, "domain": "app.example.com" })
    );

    let all = json!({ "data": [deployment()] }).to_string();
    let server = Server::answering("200 OK", &all);
    let output = server.call(&["deployment", "list"]);
    for part in ["My app", "running", SANDBOX, "http://app.example.com"] {
        assert!(stdout(&output).contains(part), "{}", stdout(&output));
    }

    let one = json!({ "data": deployment() }).to_string();
    let server = Server::answering("200 OK", &one);
    let output = server.call(&["deployment", "get", "dep_1"]);
    assert!(stdout(&output).contains("domain     app.example.com\n"));
    let server = Server::answering("200 OK", &one);
    let output = server.call(&["deployment", "rm", "dep_1"]);
    assert_eq!(stdout(&output), "dep_1\n");
    let line = server.asked().line;
    assert!(
        line.starts_with("DELETE /api/v1/deployments/dep%5F1 "),
        "{line}"
    );
}

#[test]
fn processes_are_listed_and_ended() {
    let process = json!({
        "pid": 7, "sandbox_id": SANDBOX, "name": "web", "command": "serve\n\u{1b}[2J",
        "status": "running", "exit_code": null, "started_at": null, "ended_at": null,
        "output_bytes": 0,
    });
    let server = Server::answering("200 OK", &json!({ "data": [process] }).to_string());
    let output = server.call(&["sandbox", "ps", SANDBOX]);
    let text = stdout(&output);
    assert!(
        text.contains("running") && text.contains(r"serve\n\u{1b}[2J"),
        "{text}"
    );

    let server = Server::answering("204 No Content", "");
    let output = server.call(&["sandbox", "kill", SANDBOX, "7"]);
    assert_eq!(stdout(&output), "7\n", "{}", stderr(&output));
    let line = server.asked().line;
    assert!(
        line.starts_with("DELETE ") && line.contains("/processes/7 "),
        "{line}"
    );

    for (signal, sent) in [("HUP", json!("HUP")), ("9", json!(9))] {
        let server = Server::answering("200 OK", &json!({ "data": process }).to_string());
        server.call(&["sandbox", "kill", SANDBOX, "7", "--signal", signal]);
        let asked = server.asked();
        assert!(
            asked.line.contains("/processes/7/signal "),
            "{}",
            asked.line
        );
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!(body, json!({ "signal": sent }));
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["sandbox", "expose", SANDBOX, "0"][..],
        &["sandbox", "expose", SANDBOX, "65536"],
        &[
            "sandbox",
            "start",
            SANDBOX,
            "--install",
            "x",
            "--no-install",
        ],
        &["sandbox", "deploy", SANDBOX],
        &["sandbox", "kill", SANDBOX],
        &["sandbox", "kill", SANDBOX, "web"],
        &["sandbox", "logs", SANDBOX, "-n", "many"],
        &["deployment", "rm"],
    ] {
        let output = emberbox().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
