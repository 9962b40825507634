//! Streams: what happens is told when it happens.

use std::time::Duration;

use serde_json::json;

use crate::rig::sandbox::{Ran, Sandbox};
use crate::rig::{Rig, eventually};

/// Least time between lines that a command writes a second apart. Held back
/// until the end they would come at once.
const APART: Duration = Duration::from_millis(500);

pub(crate) fn exec_tells_while_it_runs(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let command = "echo one; sleep 1; echo two >&2; sleep 1; printf three; exit 7";
    let events = api.exec_stream(&sandbox.id, &json!({ "command": command, "cwd": "/" }));
    let events = events.rest();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.name.as_str(), event.data.clone()))
        .collect();
    let expected = [
        ("stdout", json!({ "type": "stdout", "line": "one" })),
        ("stderr", json!({ "type": "stderr", "line": "two" })),
        (
            "stdout",
            json!({ "type": "stdout", "line": "three", "newline": false }),
        ),
        ("exit", json!({ "type": "exit", "exit_code": 7 })),
    ];
    assert_eq!(told, expected);
    for pair in events[..3].windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart >= APART, "{apart:?} between {pair:?}");
    }
    // What cannot be run is no stream.
    let path = sandbox.at("/exec/stream");
    api.post(&path, &json!({ "command": "" })).names("command");
    api.post(&path, &json!({ "command": "true", "timeout": 301 }))
        .names("timeout");
}

pub(crate) fn exec_ends_with_its_reader(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let body = json!({ "command": "sleep 600 & echo $$; echo $!; wait", "timeout": 300 });
    let mut events = api.exec_stream(&sandbox.id, &body);
    let leader = events.next().text("line").to_owned();
    let child = events.next().text("line").to_owned();
    assert!(sandbox.has_process(&leader) && sandbox.has_process(&child));
    drop(events);
    for pid in [leader, child] {
        eventually(&format!("process {pid} is killed"), || {
            (!sandbox.has_process(&pid)).then_some(())
        });
    }
}

pub(crate) fn exec_over_its_time_says_so(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let body = json!({ "command": "echo begun; sleep 600", "timeout": 2 });
    let events = api.exec_stream(&sandbox.id, &body).rest();
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["stdout", "error", "exit"]);
    assert_eq!(events[1].data["code"], "EXEC_TIMEOUT");
    assert_eq!(events[2].data["exit_code"], 124);
    assert_eq!(sandbox.exec("pgrep -x sleep"), nothing());
}

/// What a search says that finds nothing.
fn nothing() -> Ran {
    Ran {
        exit_code: 1,
        ..Ran::ok("")
    }
}

pub(crate) fn events_of_a_whole_life(rig: &Rig) {
    let api = rig.api();
    let body = json!({ "timeout_sec": 3600 });
    let record = api.post("/sandboxes?wait=0", &body).ok(201);
    let sandbox = Sandbox::known(&api, record);
    let path = sandbox.at("/events");
    let mut events = api.follow(&path, None);
    let first = events.next();
    assert_eq!(first.name, "state_changed", "{first:?}");
    let running = if first.data["state"] == "running" {
        first
    } else {
        assert_eq!(first.data["state"], "provisioning", "{first:?}");
        events.until(|event| event.data["state"] == "running")
    };
    assert_eq!(running.data["previous_state"], "provisioning");
    assert!(running.text("timestamp").ends_with('Z'), "{running:?}");

    assert_eq!(sandbox.say("echo first"), "first");
    let output = events.next();
    assert_eq!(output.name, "exec_output");
    assert_eq!(output.text("data"), "first\n");
    assert_eq!(output.text("stream"), "stdout");
    assert!(!output.text("exec_id").is_empty());
    let seen = output.id().to_owned();
    drop(events);

    // Nothing that happens meanwhile is lost, and nothing comes twice.
    assert_eq!(sandbox.say("echo second"), "second");
    let mut events = api.follow(&path, Some(&seen));
    assert_eq!(events.next().text("data"), "second\n");
    sandbox.exec("echo third >&2");
    let third = events.next();
    assert_eq!(
        (third.text("data"), third.text("stream")),
        ("third\n", "stderr")
    );
    assert_ne!(third.text("exec_id"), output.text("exec_id"));
    sandbox.destroy();
    let last = events.next();
    assert_eq!(last.name, "state_changed");
    assert_eq!(last.data["state"], "destroyed", "{last:?}");
    let id = last.id().to_owned();
    assert!(events.try_next().is_none(), "it closes by itself");
    // Later: the whole of it, the rest of it, nothing of it.
    let states = |last: Option<&str>| -> Vec<String> {
        let events = api.follow(&path, last).rest();
        let states = events.iter().filter(|event| event.name == "state_changed");
        states.map(|event| event.text("state").to_owned()).collect()
    };
    assert_eq!(states(None), ["destroyed"]);
    assert_eq!(states(Some(running.id())), ["destroyed"]);
    assert_eq!(
        states(Some("0-0")),
        ["provisioning", "running", "destroyed"]
    );
    assert_eq!(states(Some(&id)), Vec::<String>::new());
}

pub(crate) fn a_ticket_opens_one_stream_once(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let ticket = |route: &str, body| {
        let answer = api.post(route, &body).ok(200);
        assert!(answer["expires_in"].as_i64().unwrap() > 0, "{answer}");
        answer["ticket"].as_str().unwrap().to_owned()
    };
    let stream = |ticket: &str| sandbox.at(&format!("/events?ticket={ticket}"));
    let refused = |ticket: &str| {
        let path = format!("/api/v1{}", stream(ticket));
        api.anything("GET", &path, None)
            .refused(401, "UNAUTHORIZED");
    };
    for route in ["/auth/sse-ticket", "/sse/ticket"] {
        let ticket = ticket(route, json!({}));
        let mut events = api.follow_without_key(&stream(&ticket));
        assert_eq!(events.next().data["state"], "running");
        refused(&ticket);
    }
    // One for another stream, and one that nobody made.
    let elsewhere = ticket(
        "/auth/sse-ticket",
        json!({ "path": sandbox.at("/logs/stream") }),
    );
    refused(&elsewhere);
    refused("sset_garbage");
    // A ticket is no key.
    let some = ticket("/auth/sse-ticket", json!({}));
    let path = format!("/api/v1{}", sandbox.at(&format!("?ticket={some}")));
    api.anything("GET", &path, None)
        .refused(401, "UNAUTHORIZED");
}
