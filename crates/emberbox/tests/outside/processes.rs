//! Background processes, and that they outlive the server.

use serde_json::{Value, json};

use crate::rig::sandbox::Sandbox;
use crate::rig::server::Server;
use crate::rig::stream::{Event, Events};
use crate::rig::{Rig, eventually};

/// Lines read before and after the server is killed: enough that a lost or
/// doubled piece of output would have to show.
const LINES: u64 = 30;

/// Counts, so that whoever reads sees what is missing.
const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";

fn start(sandbox: &Sandbox<'_>, body: &Value) -> (u64, String) {
    let answer = sandbox.api.post(&sandbox.at("/processes"), body).ok(201);
    let pid = answer["data"]["pid"].as_u64().unwrap();
    assert_eq!(answer["data"]["status"], "running", "{answer}");
    (pid, sandbox.at(&format!("/processes/{pid}")))
}

pub(crate) fn from_start_to_end(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let command = "echo $A in $PWD; while read -r line; do echo \"got $line\"; done; exit 3";
    let body = json!({ "command": command, "name": "reader", "cwd": "/tmp", "env": { "A": "b" } });
    let (pid, path) = start(&sandbox, &body);
    let (other, other_path) = start(&sandbox, &json!({ "command": "exec sleep 600" }));
    let list = api.get(&sandbox.at("/processes")).ok(200);
    let pids: Vec<_> = list["data"].as_array().unwrap().iter().collect();
    let pids: Vec<_> = pids.iter().map(|process| &process["pid"]).collect();
    assert_eq!(pids, [pid, other]);
    let known = api.get(&path).ok(200)["data"].clone();
    assert_eq!(known["name"], "reader", "{known}");
    assert_eq!(known["command"], command);
    assert_eq!(known["exit_code"], Value::Null);

    let mut events = api.follow(&format!("{path}/stream"), None);
    assert_eq!(events.next().text("line"), "b in /tmp");
    let stdin = |body: Value| api.post(&format!("{path}/stdin"), &body);
    assert_eq!(stdin(json!({ "data": "grüße\n" })).status, 204);
    assert_eq!(events.next().text("line"), "got grüße");
    assert_eq!(
        stdin(json!({ "data": "last\n", "close": true })).status,
        204
    );
    let rest = events.rest();
    assert_eq!(rest[0].text("line"), "got last");
    assert_eq!(rest[1].name, "exit");
    assert_eq!(rest[1].data["exit_code"], 3);
    let known = api.get(&path).ok(200)["data"].clone();
    assert_eq!(
        (&known["status"], &known["exit_code"]),
        (&json!("exited"), &json!(3))
    );
    let logs = |query: &str| api.get(&format!("{path}/logs{query}")).ok(200)["data"].clone();
    assert_eq!(logs(""), "b in /tmp\ngot grüße\ngot last\n");
    assert_eq!(logs("?tail=1"), "got last\n");
    stdin(json!({ "data": "late" })).refused(409, "PROCESS_NOT_RUNNING");

    // Signals, and the end by force.
    let signal = |body: Value| api.post(&format!("{other_path}/signal"), &body);
    signal(json!({ "signal": "SIGNONE" })).names("signal");
    signal(json!({ "signal": "SIGTERM" })).ok(200);
    let ended = eventually("the signal ends it", || {
        let known = api.get(&other_path).ok(200)["data"].clone();
        (known["status"] == "exited").then_some(known)
    });
    assert_eq!(ended["exit_code"], 128 + 15);
    let stubborn =
        json!({ "command": "trap '' TERM; sleep 600 & echo $!; while :; do wait; done" });
    let (stubborn_pid, stubborn_path) = start(&sandbox, &stubborn);
    let mut events = api.follow(&format!("{stubborn_path}/stream"), None);
    let child = events.next().text("line").to_owned();
    assert_eq!(api.delete(&stubborn_path).status, 204);
    for pid in [stubborn_pid.to_string(), child] {
        eventually(&format!("process {pid} is gone"), || {
            (!sandbox.has_process(&pid)).then_some(())
        });
    }
    api.get(&sandbox.at("/processes/999999"))
        .refused(404, "PROCESS_NOT_FOUND");
}

pub(crate) fn outlives_the_server(rig: &Rig) {
    let mut server = Server::start(&rig.binary);
    let api = server.api();
    let sandbox = Sandbox::new(&api);
    let (pid, path) = start(&sandbox, &json!({ "command": COUNTS, "name": "counts" }));
    let stream = format!("{path}/stream");
    let mut events = api.follow(&stream, None);
    let last = count(&mut events, 1, LINES);
    let record = sandbox.record.clone();
    sandbox.keep();
    server.kill_9();
    // What was sent before it died may still be read; then the stream ends.
    let (mut last, mut next) = (last, LINES + 1);
    while let Some(event) = events.try_next() {
        assert_eq!(event.text("line"), format!("line {next}"));
        (last, next) = (event, next + 1);
    }
    server.restart();

    let api = server.api();
    let sandbox = Sandbox::known(&api, record);
    let known = api.get(&path).ok(200)["data"].clone();
    assert_eq!(
        (&known["pid"], &known["status"]),
        (&json!(pid), &json!("running"))
    );
    assert_eq!(known["name"], "counts");
    let mut events = api.follow(&stream, Some(last.id()));
    count(&mut events, next, LINES);
    // And the whole of it is still there from its beginning.
    let mut events = api.follow(&stream, None);
    count(&mut events, 1, 2 * LINES);
    let logs = api.get(&format!("{path}/logs?tail=10000")).ok(200);
    let logs = logs["data"].as_str().unwrap();
    for (at, line) in logs.lines().enumerate() {
        // The last one may still be written.
        let whole = format!("line {}", at + 1);
        assert!(whole.starts_with(line), "{line:?} in place of {whole:?}");
    }
    assert_eq!(api.delete(&path).status, 204);
    let exit = events.until(|event| event.name == "exit");
    assert_eq!(exit.data["exit_code"], 128 + 15);
    sandbox.destroy();
    server.finish().unwrap();
}

/// Reads so many lines that have to be the next ones, and returns the last.
#[track_caller]
fn count(events: &mut Events, first: u64, lines: u64) -> Event {
    let mut last = None;
    for number in first..first + lines {
        let event = events.next();
        assert_eq!(event.name, "stdout", "{event:?}");
        assert_eq!(event.text("line"), format!("line {number}"));
        last = Some(event);
    }
    last.unwrap()
}
