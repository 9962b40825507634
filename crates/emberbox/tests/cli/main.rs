//! The binary as a user meets it, with a made-up server where one is needed.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

mod app;
mod billing;
mod follow;
mod rig;
mod stdin;
mod template;
mod tenancy;
mod terminal;

use std::path::Path;
use std::process::Output;

use rig::{SANDBOX, Server, emberbox, encoded, event, stderr, stdout};

fn exec_events(exit_code: i32) -> String {
    [
        event("stdout", r#"{"type":"stdout","line":"out"}"#),
        ": a heartbeat\n\n".to_owned(),
        event("stderr", r#"{"type":"stderr","line":"err"}"#),
        event("news", r#"{"of":"a newer server"}"#),
        event(
            "stdout",
            r#"{"type":"stdout","line":"100 %\r","newline":false}"#,
        ),
        event(
            "exit",
            &format!(r#"{{"type":"exit","exit_code":{exit_code}}}"#),
        ),
    ]
    .concat()
}

#[test]
fn exec_passes_output_through_and_exits_with_the_commands_code() {
    let server = Server::telling(&exec_events(7));
    let output = server.call(&[
        "sandbox", "exec", SANDBOX, "--cwd", "/tmp", "--", "a", "b c",
    ]);
    assert_eq!(output.status.code(), Some(7));
    // The last line had no end, and gets none.
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("out\n100 %\r", "err\n")
    );

    let asked = server.asked();
    assert!(asked.line.starts_with(&format!(
        "POST /api/v1/sandboxes/{}/exec/stream ",
        encoded(SANDBOX)
    )));
    assert!(asked.headers.contains("authorization: bearer the-key"));
    let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["command"], "a 'b c'");
    assert_eq!(body["working_dir"], "/tmp");
}

#[test]
fn what_the_server_says_is_shown_with_code_and_request_id() {
    let body = r#"{"error":{"code":"SANDBOX_NOT_RUNNING","message":"the sandbox is paused",
        "details":null,"request_id":"req_5"}}"#;
    let server = Server::answering("409 Conflict", body);
    let output = server.call(&["sandbox", "exec", SANDBOX, "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for part in ["the sandbox is paused", "SANDBOX_NOT_RUNNING", "req_5"] {
        assert!(said.contains(part), "{part} is not in {said:?}");
    }
}

#[test]
fn the_official_clients_variables_are_read_too() {
    let server = Server::telling(&exec_events(0));
    let output = emberbox()
        .args(["sandbox", "exec", SANDBOX, "--", "true"])
        .env("MIOSA_BASE_URL", format!("{}/api/v1", server.url))
        .env("MIOSA_API_KEY", "the-key")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(server.asked().line.starts_with("POST /api/v1/sandboxes/"));
}

#[test]
fn an_upload_is_one_whole_form() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.py");
    std::fs::write(&file, "print(1)").unwrap();
    let answer =
        format!(r#"{{"data":{{"sandbox_id":"{SANDBOX}","path":"/workspace/x.py","size":8}}}}"#);
    let server = Server::answering("200 OK", &answer);
    let target = format!("{SANDBOX}:/workspace/");
    let output = server.call(&["sandbox", "cp", file.to_str().unwrap(), &target]);
    assert!(output.status.success(), "{}", stderr(&output));
    let body = String::from_utf8(server.asked().body).unwrap();
    assert!(
        body.contains("/workspace/x.py") && body.contains("print(1)"),
        "{body}"
    );
}

#[test]
fn a_download_that_fails_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let body = r#"{"error":{"code":"FILE_NOT_FOUND","message":"/x does not exist",
        "details":null,"request_id":"req_6"}}"#;
    let server = Server::answering("404 Not Found", body);
    let target = directory.path().join("x");
    let source = format!("{SANDBOX}:/x");
    let output = server.call(&["sandbox", "cp", &source, target.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_command_without_server_or_key_says_which_variable_is_missing() {
    let output = emberbox().args(["sandbox", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("EMBERBOX_URL"),
        "{}",
        stderr(&output)
    );

    let mut command = emberbox();
    let output = command
        .args(["sandbox", "list"])
        .env("EMBERBOX_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("EMBERBOX_API_KEY"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["sandbox", "exec", SANDBOX][..],
        &["sandbox", "create", "--env", "novalue"],
        &["sandbox", "cp", "a"],
        &["sandbox", "cp", "a", "sbx:relative"],
        &["serve"],
        &["nonsense"],
    ] {
        let output = emberbox().args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

fn serve(directory: &Path, config: &str) -> Output {
    let file = directory.join("config.toml");
    std::fs::write(&file, config).unwrap();
    emberbox()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(directory.join("data"))
        .arg("--bootstrap-key-file")
        .arg(directory.join("key"))
        .arg("--config")
        .arg(file)
        .output()
        .unwrap()
}

#[test]
fn a_configuration_that_cannot_be_used_stops_the_start_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    for (config, key) in [
        ("[server]\nport = 1", "port"),
        ("[network]\npool_size = 100000", "network.pool_size"),
        ("[engine]\naccel = \"warp\"", "accel"),
    ] {
        let output = serve(directory.path(), config);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(key), "{}", stderr(&output));
        assert!(!directory.path().join("data").exists());
        assert!(!directory.path().join("key").exists());
    }
}

#[test]
fn nobody_reading_the_output_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = emberbox().arg("openapi").stdout(writer).status().unwrap();
    assert!(status.success());
}
