//! Streams: output, events, tickets.

use std::fs;

use emberbox_api::ExecRequest;
use reqwest::Response;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{PATIENCE, Rig, answer, eventually, marker};
use crate::work::command;

/// An event: its name, its id and its data.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// Reads events as they come.
pub(crate) struct Events {
    response: Response,
    text: String,
}

impl Events {
    pub(crate) fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self {
            response,
            text: String::new(),
        }
    }

    /// The next event, or none at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
                continue;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.unwrap();
            self.text += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }

    pub(crate) async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    Some(Event {
        name: field("event")?,
        id: field("id"),
        data: serde_json::from_str(&field("data")?).unwrap(),
    })
}

async fn exec_stream(rig: &Rig, id: &str, request: &ExecRequest) -> Events {
    let path = format!("/sandboxes/{id}/exec/stream");
    Events::of(
        rig.request("POST", &path)
            .json(request)
            .send()
            .await
            .unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn output_streams_line_by_line() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let all = command("echo one; echo bad >&2; printf 'a\\377b'; exit 3");
    let events = exec_stream(&rig, id, &all).await.rest().await;
    let of = |name: &str| {
        let lines = events.iter().filter(|event| event.name == name);
        lines.map(|event| event.data.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        of("stdout"),
        [
            json!({"type": "stdout", "line": "one"}),
            json!({"type": "stdout", "line": "a\u{fffd}b", "newline": false})
        ]
    );
    assert_eq!(of("stderr"), [json!({"type": "stderr", "line": "bad"})]);
    let last = events.last().unwrap();
    assert_eq!(last.name, "exit");
    assert_eq!(last.data, json!({"type": "exit", "exit_code": 3}));

    let late = ExecRequest {
        timeout: Some(1),
        ..command("echo begun; sleep 60")
    };
    let events = exec_stream(&rig, id, &late).await.rest().await;
    let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["stdout", "error", "exit"]);
    assert_eq!(events[1].data["code"], "EXEC_TIMEOUT");
    assert_eq!(events[2].data["exit_code"], 124);

    let path = format!("/sandboxes/{id}/exec/stream");
    let (status, code, _) = answer(rig.request("POST", &path).json(&json!({}))).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_comes_while_its_command_goes_on() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let (pid_file, go) = (marker(&rig, "pid"), marker(&rig, "go"));
    let script = format!(
        "echo $$ > {}; echo first; until [ -e {} ]; do sleep 0.01; done; echo second; sleep 60",
        pid_file.display(),
        go.display()
    );
    let mut events = exec_stream(&rig, sandbox.id.as_str(), &command(&script)).await;
    assert_eq!(events.next().await.unwrap().data["line"], "first");
    fs::write(&go, "").unwrap();
    assert_eq!(events.next().await.unwrap().data["line"], "second");
    drop(events);
    let pid = fs::read_to_string(pid_file).unwrap();
    eventually("the end of the command", || async {
        !crate::work::alive(&pid)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happens_until_the_end() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let path = format!("/sandboxes/{id}/events");
    let open = || async { Events::of(rig.request("GET", &path).send().await.unwrap()) };
    let mut events = open().await;
    let now = events.next().await.unwrap();
    assert_eq!(now.name, "state_changed");
    assert_eq!(now.data["state"], "running");
    assert_eq!(now.data["previous_state"], "provisioning");
    assert!(now.data["timestamp"].as_str().unwrap().ends_with('Z'));

    rig.client.exec(id, &command("echo 2")).await.unwrap();
    let output = events.next().await.unwrap();
    assert_eq!(output.name, "exec_output");
    assert_eq!(output.data["data"], "2\n");
    assert_eq!(output.data["stream"], "stdout");
    assert!(
        output.data["exec_id"]
            .as_str()
            .unwrap()
            .starts_with("exec_")
    );

    // Who comes back reads on where they were, in both sources.
    rig.client.exec(id, &command("echo 3 >&2")).await.unwrap();
    let again = rig.request("GET", &path);
    let again = again.header("last-event-id", output.id.unwrap());
    let mut again = Events::of(again.send().await.unwrap());
    let missed = again.next().await.unwrap();
    assert_eq!(
        (&missed.data["data"], &missed.data["stream"]),
        (&json!("3\n"), &json!("stderr"))
    );

    rig.client.destroy_sandbox(id).await.unwrap();
    let rest = again.rest().await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0].data["state"], "destroyed");
    assert_eq!(
        events.rest().await.last().unwrap().data["state"],
        "destroyed"
    );
    // A stream of what is over says so and closes.
    let late = open().await.rest().await;
    assert_eq!(late.len(), 1, "{late:?}");
    let done = rig.request("GET", &path);
    let done = done.header("last-event-id", late[0].id.clone().unwrap());
    assert!(
        Events::of(done.send().await.unwrap())
            .rest()
            .await
            .is_empty()
    );
    let bad = rig.request("GET", &path).header("last-event-id", "x");
    let (status, code, _) = answer(bad).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_dies_is_an_error_event_and_the_end() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let path = format!("/sandboxes/{}/events", sandbox.id);
    let mut events = Events::of(rig.request("GET", &path).send().await.unwrap());
    assert_eq!(events.next().await.unwrap().name, "state_changed");
    let vm = rig.fleet.running().pop().unwrap();
    rig.fleet.kill(&vm).await;
    let rest = events.rest().await;
    assert_eq!(rest[0].name, "error");
    assert_eq!(rest[0].data["message"], "VM terminated unexpectedly");
    assert_eq!(
        (rest[1].name.as_str(), &rest[1].data["state"]),
        ("state_changed", &json!("error"))
    );
    // Who comes later is told the same.
    let late = Events::of(rig.request("GET", &path).send().await.unwrap());
    let names: Vec<_> = late
        .rest()
        .await
        .into_iter()
        .map(|event| event.name)
        .collect();
    assert_eq!(names, ["error", "state_changed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_one_stream_once() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let path = format!("/sandboxes/{}/events", sandbox.id);
    let ticket = |route: &'static str, body: Option<Value>| {
        let mut request = rig.request("POST", route);
        if let Some(body) = body {
            request = request.json(&body);
        }
        async {
            let (status, _, body) = answer(request).await;
            assert_eq!((status, &body["expires_in"]), (200, &json!(60)));
            body["ticket"].as_str().unwrap().to_owned()
        }
    };
    let open = |path: &str, ticket: &str| {
        let url = format!("{}{path}?ticket={ticket}", rig.url);
        rig.http.get(url)
    };
    for route in ["/auth/sse-ticket", "/sse/ticket"] {
        let ticket = ticket(route, None).await;
        assert!(ticket.starts_with("sset_"));
        let mut events = Events::of(open(&path, &ticket).send().await.unwrap());
        assert_eq!(events.next().await.unwrap().name, "state_changed");
        let (status, code, _) = answer(open(&path, &ticket)).await;
        assert_eq!((status, code.as_str()), (401, "UNAUTHORIZED"), "used twice");
    }
    let bound = ticket("/sse/ticket", Some(json!({ "path": path }))).await;
    let elsewhere = format!("/sandboxes/{}/readiness/stream", sandbox.id);
    let (status, _, _) = answer(open(&elsewhere, &bound)).await;
    assert_eq!(status, 401, "another path");
    let bound = ticket("/sse/ticket", Some(json!({ "path": path }))).await;
    assert_eq!(open(&path, &bound).send().await.unwrap().status(), 200);
    // No ticket opens anything else, and no made-up one anything.
    let unused = ticket("/sse/ticket", None).await;
    let (status, _, _) = answer(open(&format!("/sandboxes/{}", sandbox.id), &unused)).await;
    assert_eq!(status, 401);
    let (status, _, _) = answer(open(&path, "sset_aaaa")).await;
    assert_eq!(status, 401);
    let foreign = rig.store.create_tenant("other").await.unwrap();
    let foreign = foreign.secret.unwrap();
    let (_, _, theirs) = answer(
        rig.http
            .post(format!("{}/sse/ticket", rig.url))
            .bearer_auth(foreign.expose_secret()),
    )
    .await;
    let (status, code, _) = answer(open(&path, theirs["ticket"].as_str().unwrap())).await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
    let (status, _, _) = answer(
        rig.request("POST", "/auth/sse-ticket")
            .json(&json!({"path": "events?x"})),
    )
    .await;
    assert_eq!(status, 422);
}
