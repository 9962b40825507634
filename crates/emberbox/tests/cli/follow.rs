//! Following streams, and leaving them.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{SANDBOX, Server, event, stderr, stdout};

#[test]
fn a_command_over_its_time_exits_with_124_and_says_why() {
    let events = [
        event("stdout", r#"{"type":"stdout","line":"begun"}"#),
        event(
            "error",
            r#"{"type":"error","code":"EXEC_TIMEOUT","message":"it took too long"}"#,
        ),
        event("exit", r#"{"type":"exit","exit_code":124}"#),
    ];
    let server = Server::telling(&events.concat());
    let output = server.call(&["sandbox", "exec", SANDBOX, "--", "sleep", "99"]);
    assert_eq!(output.status.code(), Some(124));
    assert_eq!(stdout(&output), "begun\n");
    for part in ["it took too long", "EXEC_TIMEOUT"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn a_command_whose_end_is_not_told_is_a_failure() {
    let begun = event("stdout", r#"{"type":"stdout","line":"begun"}"#);
    let lost = event(
        "error",
        r#"{"type":"error","code":"SANDBOX_UNREACHABLE","message":"it is gone"}"#,
    );
    for (events, said) in [
        (begun.clone(), "unknown"),
        (begun.clone() + &lost, "SANDBOX_UNREACHABLE"),
        (event("exit", "no json"), "not one of an Emberbox server"),
    ] {
        let server = Server::telling(&events);
        let output = server.call(&["sandbox", "exec", SANDBOX, "--", "true"]);
        assert_eq!(output.status.code(), Some(1), "{events}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    // A server that answers something else than a stream.
    let server = Server::answering("200 OK", r#"{"data":{}}"#);
    let output = server.call(&["sandbox", "exec", SANDBOX, "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn ctrl_c_ends_what_is_followed_with_130_and_leaves_the_server() {
    let output_line = event("stdout", r#"{"type":"stdout","line":"first"}"#);
    let log = event("log", r#"{"type":"log","line":"first"}"#);
    let state = event(
        "state_changed",
        r#"{"state":"running","previous_state":null,"timestamp":"2026-01-02T03:04:05.000Z"}"#,
    );
    for (arguments, events) in [
        (&["sandbox", "exec", SANDBOX, "--", "true"][..], output_line),
        (&["sandbox", "logs", "-f", SANDBOX], log),
        (&["sandbox", "events", SANDBOX], state),
    ] {
        let server = Server::staying(&events);
        let mut command = server.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What came is shown before the stream ends.
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{arguments:?}");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{arguments:?}");
        let mut said = String::new();
        child.stderr.unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{arguments:?}");
        server.asked();
    }
}

#[test]
fn logs_are_shown_as_they_are_or_followed() {
    let body = format!(
        r#"{{"data":{{"sandbox_id":"{SANDBOX}","lines":["a","b"],"logs":"a\nb\n","logs_path":"/l"}}}}"#
    );
    let server = Server::answering("200 OK", &body);
    let output = server.call(&["sandbox", "logs", SANDBOX, "-n", "2"]);
    assert_eq!(stdout(&output), "a\nb\n");
    assert!(server.asked().line.contains("/logs?lines=2 "));

    let line = event("log", r#"{"type":"log","line":"a"}"#);
    let server = Server::telling(&line.repeat(2));
    let output = server.call(&["sandbox", "logs", SANDBOX, "--follow"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), "a\na\n");
    assert!(server.asked().line.contains("/logs/stream "));
}

#[test]
fn events_are_a_line_each() {
    let events = [
        event(
            "state_changed",
            r#"{"state":"running","previous_state":"provisioning","timestamp":"2026-01-02T03:04:05.000Z"}"#,
        ),
        event(
            "exec_output",
            r#"{"exec_id":"exec_1","stream":"stderr","data":"a\nb\u001b[2J\n","timestamp":"2026-01-02T03:04:06.000Z"}"#,
        ),
        event(
            "error",
            r#"{"message":"it died","timestamp":"2026-01-02T03:04:07.000Z"}"#,
        ),
    ]
    .concat();
    let server = Server::telling(&events);
    let output = server.call(&["sandbox", "events", SANDBOX]);
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(
        lines,
        [
            "2026-01-02T03:04:05.000000Z state running (was provisioning)",
            "2026-01-02T03:04:06.000000Z exec_1 stderr a\\nb\\u{1b}[2J",
            "2026-01-02T03:04:07.000000Z error it died",
        ]
    );
    let server = Server::telling(&events);
    let output = server.call(&["sandbox", "events", "--json", SANDBOX]);
    let lines: Vec<serde_json::Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["event"], "state_changed");
    assert_eq!(lines[0]["previous_state"], "provisioning");
    assert_eq!(lines[1]["data"], "a\nb\u{1b}[2J\n");
}

#[test]
fn changes_of_a_directory_are_a_line_each() {
    let change = |name: &str, path: &str, is_dir: bool, old: &str| {
        let data = format!(
            r#"{{"event":"{name}","type":"{name}","path":"{path}","is_dir":{is_dir},
                "old_path":{old},"size_bytes":null}}"#
        );
        event(name, &data.replace('\n', ""))
    };
    let events = [
        change("created", "/w/dir", true, "null"),
        change("modified", r"/w/a\u001b[2J", false, "null"),
        change("renamed", "/w/b", false, r#""/w/a""#),
        change("overflow", "/w", true, "null"),
    ]
    .concat();
    let server = Server::telling(&events);
    let output = server.call(&["sandbox", "watch", &format!("{SANDBOX}:/w"), "--flat"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(
        lines,
        [
            "created  /w/dir/",
            r"modified /w/a\u{1b}[2J",
            "renamed  /w/a -> /w/b",
            "overflow /w/",
        ]
    );
    let line = server.asked().line;
    assert!(
        line.contains("/files/watch?path=%2Fw&recursive=false "),
        "{line}"
    );

    let lost = event("error", r#"{"type":"error","code":"X","message":"gone"}"#);
    let server = Server::telling(&lost);
    let output = server.call(&["sandbox", "watch", SANDBOX, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("gone (X)"), "{}", stderr(&output));
}
