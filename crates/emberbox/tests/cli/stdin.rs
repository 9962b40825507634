//! Passing standard input on to a command.

use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::rig::{Asked, SANDBOX, answering_all, emberbox_at, event, stderr, stdout};

/// A command's standard input, as the made-up server gets it.
#[derive(Default)]
struct Input {
    state: Mutex<(Vec<u8>, bool)>,
    closed: Condvar,
}

impl Input {
    fn take(&self, asked: &Asked) {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let data = STANDARD.decode(body["data_base64"].as_str().unwrap());
        let mut state = self.state.lock().unwrap();
        state.0.extend(data.unwrap());
        if body["close"] == true {
            state.1 = true;
            self.closed.notify_all();
        }
    }

    fn whole(&self) -> Vec<u8> {
        let state = self.state.lock().unwrap();
        let state = self.closed.wait_while(state, |state| !state.1);
        state.unwrap().0.clone()
    }
}

fn process() -> String {
    let process = json!({
        "pid": 7, "sandbox_id": SANDBOX, "name": null, "command": "sum", "status": "running",
        "exit_code": null, "started_at": null, "ended_at": null, "output_bytes": 0,
    });
    json!({ "data": process }).to_string()
}

fn full() -> String {
    json!({ "error": { "code": "GUEST_LIMIT_EXCEEDED", "message": "it does not read",
        "details": null, "request_id": "req_1" } })
    .to_string()
}

#[test]
fn every_byte_of_standard_input_arrives_and_the_code_comes_back() {
    let input = Arc::new(Input::default());
    let (seen, refusals) = (Arc::clone(&input), Mutex::new(2));
    let (url, lines) = answering_all(move |asked| {
        let json = "application/json";
        if asked.line.starts_with("DELETE ") {
            (json, "204 No Content", Box::new(String::new))
        } else if asked.line.contains("/stream") {
            let seen = Arc::clone(&seen);
            let events = move || {
                let line = seen.whole().len();
                let line = format!(r#"{{"type":"stdout","line":"{line}","offset":9}}"#);
                let exit = event("exit", r#"{"type":"exit","exit_code":5}"#);
                event("stdout", &line) + &exit
            };
            ("text/event-stream", "200 OK", Box::new(events))
        } else if asked.line.contains("/stdin") {
            let mut refusals = refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return (json, "409 Conflict", Box::new(full));
            }
            seen.take(asked);
            (json, "204 No Content", Box::new(String::new))
        } else {
            (json, "201 Created", Box::new(process))
        }
    });
    // Not only text, and more than fits one request.
    let bytes: Vec<u8> = (0..300_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let mut command = emberbox_at(&url, &["sandbox", "exec", "-i", SANDBOX, "--", "sum"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert_eq!(stdout(&output), "300000\n");
    assert!(input.whole() == bytes, "bytes were changed");
    let lines = lines.lock().unwrap();
    assert!(lines.last().unwrap().starts_with("DELETE "), "{lines:?}");
}

#[test]
fn a_command_that_ends_before_its_input_is_no_failure() {
    let (url, _) = answering_all(|asked| {
        let json = "application/json";
        if asked.line.contains("/stream") {
            let exit = event("exit", r#"{"type":"exit","exit_code":0}"#);
            ("text/event-stream", "200 OK", Box::new(|| exit))
        } else if asked.line.contains("/stdin") {
            let gone = || full().replace("GUEST_LIMIT_EXCEEDED", "PROCESS_NOT_RUNNING");
            (json, "409 Conflict", Box::new(gone))
        } else if asked.line.starts_with("DELETE ") {
            (json, "204 No Content", Box::new(String::new))
        } else {
            (json, "201 Created", Box::new(process))
        }
    });
    // Standard input stays open: nobody waits for its end.
    let mut command = emberbox_at(&url, &["sandbox", "exec", "-i", SANDBOX, "--", "true"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    assert!(child.wait().unwrap().success());
    drop(open);
}
