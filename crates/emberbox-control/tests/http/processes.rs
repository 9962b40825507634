//! Background processes.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};
use crate::streams::{Event, Events};

struct Sandbox<'a> {
    rig: &'a Rig,
    id: String,
}

impl<'a> Sandbox<'a> {
    async fn of(rig: &'a Rig) -> Self {
        let id = rig.sandbox().await.id.to_string();
        Self { rig, id }
    }

    fn request(&self, method: &str, rest: &str) -> reqwest::RequestBuilder {
        self.rig
            .request(method, &format!("/sandboxes/{}/processes{rest}", self.id))
    }

    async fn start(&self, command: &str) -> u64 {
        let body = json!({"command": command, "cwd": "/", "name": "job"});
        let (status, _, body) = answer(self.request("POST", "").json(&body)).await;
        assert_eq!(status, 201, "{body}");
        body["data"]["pid"].as_u64().unwrap()
    }

    async fn get(&self, pid: u64) -> Value {
        let (status, _, mut body) = answer(self.request("GET", &format!("/{pid}"))).await;
        assert_eq!(status, 200, "{body}");
        body["data"].take()
    }

    async fn ended(&self, pid: u64) -> Value {
        eventually("the end of a process", || async {
            self.get(pid).await["status"] == "exited"
        })
        .await;
        self.get(pid).await
    }

    async fn no_content(&self, method: &str, rest: &str, body: &Value) {
        let response = self.request(method, rest).json(body).send().await.unwrap();
        assert_eq!(response.status(), 204);
        assert!(response.bytes().await.unwrap().is_empty());
    }

    async fn follow(&self, pid: u64, query: &str, headers: HeaderMap) -> Events {
        let request = self.request("GET", &format!("/{pid}/stream{query}"));
        Events::of(request.headers(headers).send().await.unwrap())
    }
}

fn last_id(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("last-event-id", id.parse().unwrap());
    headers
}

fn lines(events: &[Event], name: &str) -> Vec<String> {
    let named = events.iter().filter(|event| event.name == name);
    named
        .map(|event| event.data["line"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_runs_in_the_background_and_is_remembered() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let pid = sandbox
        .start("echo out; echo err >&2; read word; echo $word; exit 4")
        .await;
    let running = sandbox.get(pid).await;
    assert_eq!(running["status"], "running");
    assert_eq!(running["exit_code"], Value::Null);
    assert_eq!(
        (&running["name"], &running["pid"]),
        (&json!("job"), &json!(pid))
    );
    assert!(running["started_at"].as_str().unwrap().starts_with("20"));
    eventually("the first output", || async {
        sandbox.get(pid).await["output_bytes"] == 8
    })
    .await;
    let path = format!("/{pid}/stdin");
    sandbox
        .no_content("POST", &path, &json!({"data": "héllo\n"}))
        .await;
    let ended = sandbox.ended(pid).await;
    assert_eq!(
        (&ended["exit_code"], &ended["output_bytes"]),
        (&json!(4), &json!(15))
    );
    let (_, _, list) = answer(sandbox.request("GET", "")).await;
    assert_eq!(list, json!({ "data": [ended] }));
    let (_, _, logs) = answer(sandbox.request("GET", &format!("/{pid}/logs"))).await;
    let text = logs["data"].as_str().unwrap();
    assert!(
        text.contains("err\n") && text.ends_with("héllo\n"),
        "{text}"
    );
    let (_, _, logs) = answer(sandbox.request("GET", &format!("/{pid}/logs?tail=1"))).await;
    assert_eq!(logs, json!({"data": "héllo\n"}));
    // Too late for input and signals, and the answers say so.
    for (path, body) in [
        ("stdin", json!({"data": "x"})),
        ("signal", json!({"signal": 15})),
    ] {
        let request = sandbox
            .request("POST", &format!("/{pid}/{path}"))
            .json(&body);
        let (status, code, _) = answer(request).await;
        assert_eq!(
            (status, code.as_str()),
            (409, "PROCESS_NOT_RUNNING"),
            "{path}"
        );
    }
    sandbox
        .no_content("DELETE", &format!("/{pid}"), &json!({}))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_signalled_and_stopped() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let pid = sandbox.start("exec sleep 300").await;
    let signal = sandbox
        .request("POST", &format!("/{pid}/signal"))
        .json(&json!({"signal": "SIGKILL"}));
    let (status, _, body) = answer(signal).await;
    assert_eq!((status, &body["data"]["pid"]), (200, &json!(pid)));
    assert_eq!(sandbox.ended(pid).await["exit_code"], 137);

    let pid = sandbox.start("exec cat").await;
    let path = format!("/{pid}/stdin");
    sandbox
        .no_content("POST", &path, &json!({"data": "last", "close": true}))
        .await;
    assert_eq!(sandbox.ended(pid).await["exit_code"], 0);

    let pid = sandbox.start("exec sleep 300").await;
    sandbox
        .no_content("DELETE", &format!("/{pid}"), &json!({}))
        .await;
    let stopped = sandbox.get(pid).await;
    assert_eq!(
        (&stopped["status"], &stopped["exit_code"]),
        (&json!("exited"), &json!(143))
    );

    let body = json!({"command": "exec sleep 300", "cwd": "/", "timeout": 1});
    let (_, _, started) = answer(sandbox.request("POST", "").json(&body)).await;
    let pid = started["data"]["pid"].as_u64().unwrap();
    assert_eq!(sandbox.ended(pid).await["exit_code"], 124);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_followed_and_resumed() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let pid = sandbox
        .start("echo one; read go; echo two; read go; echo bad >&2; exit 2")
        .await;
    let mut events = sandbox.follow(pid, "", HeaderMap::new()).await;
    let first = events.next().await.unwrap();
    assert_eq!(first.name, "stdout");
    assert_eq!(
        first.data,
        json!({"type": "stdout", "line": "one", "offset": 4})
    );
    let id = first.id.unwrap();
    assert_eq!(id, "4");
    drop(events);
    let mut events = sandbox.follow(pid, "?offset=0", last_id(&id)).await;
    let path = format!("/{pid}/stdin");
    sandbox
        .no_content("POST", &path, &json!({"data": "\n"}))
        .await;
    let mut rest = vec![events.next().await.unwrap()];
    // What was written by then is in the log before anything later is.
    sandbox
        .no_content("POST", &path, &json!({"data": "\n"}))
        .await;
    rest.extend(events.rest().await);
    assert_eq!(
        (lines(&rest, "stdout"), lines(&rest, "stderr")),
        (vec!["two".into()], vec!["bad".into()])
    );
    let exit = rest.last().unwrap();
    assert_eq!(exit.data, json!({"type": "exit", "exit_code": 2}));

    let all = sandbox.follow(pid, "", HeaderMap::new()).await.rest().await;
    assert_eq!(lines(&all, "stdout"), ["one", "two"]);
    let late = sandbox
        .follow(pid, "?offset=8", HeaderMap::new())
        .await
        .rest()
        .await;
    assert_eq!(lines(&late, "stdout"), Vec::<String>::new());
    assert_eq!(lines(&late, "stderr"), ["bad"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_is_told_what_is_missing() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let pid = sandbox
        .start("head -c 3000000 /dev/zero; echo; echo end")
        .await;
    sandbox.ended(pid).await;
    let events = sandbox.follow(pid, "", HeaderMap::new()).await.rest().await;
    assert_eq!(events[0].name, "gap");
    assert_eq!(events[0].data["missed"], 3_000_005 - 1024 * 1024);
    assert_eq!(lines(&events, "stdout").last().unwrap(), "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_finds_the_processes_again() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let pid = sandbox.start("echo before; read go; echo after").await;
    let id = sandbox.id.clone();
    let rig = rig.crash_and_restart().await;
    let sandbox = Sandbox { rig: &rig, id };
    assert_eq!(sandbox.get(pid).await["status"], "running");
    let path = format!("/{pid}/stdin");
    sandbox
        .no_content("POST", &path, &json!({"data": "\n"}))
        .await;
    let events = sandbox.follow(pid, "", HeaderMap::new()).await.rest().await;
    assert_eq!(lines(&events, "stdout"), ["before", "after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_by_name() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    for body in [
        json!({}),
        json!({"command": ""}),
        json!({"command": 1}),
        json!({"command": "x", "cwd": "relative"}),
        json!({"command": "x", "cwd": "/no/such/directory"}),
        json!({"command": "x", "timeout": -1}),
        json!({"command": "x", "env": {"": "x"}}),
        json!({"command": "x".repeat(200_000)}),
    ] {
        let (status, code, _) = answer(sandbox.request("POST", "").json(&body)).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
    }
    let pid = sandbox.start("exec sleep 300").await;
    for (method, path, body) in [
        ("POST", "signal", json!({})),
        ("POST", "signal", json!({"signal": "SIGNOPE"})),
        ("POST", "signal", json!({"signal": 0})),
        ("POST", "stdin", json!({"data": 5})),
        ("GET", "logs?tail=x", json!({})),
        ("GET", "logs?tail=-1", json!({})),
        ("GET", "stream?offset=x", json!({})),
    ] {
        let request = sandbox
            .request(method, &format!("/{pid}/{path}"))
            .json(&body);
        let (status, code, _) = answer(request).await;
        assert_eq!(
            (status, code.as_str()),
            (422, "VALIDATION_ERROR"),
            "{path} {body}"
        );
    }
    let garbage = sandbox.request("GET", &format!("/{pid}/stream"));
    let (status, _, _) = answer(garbage.headers(last_id("garbage"))).await;
    assert_eq!(status, 422);
    for unknown in ["0", "1", "4294967295", "4294967296", "-1", "abc", "%20"] {
        for (method, rest) in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/logs"),
            ("GET", "/stream"),
        ] {
            let (status, code, _) =
                answer(sandbox.request(method, &format!("/{unknown}{rest}"))).await;
            assert_eq!(
                (status, code.as_str()),
                (404, "PROCESS_NOT_FOUND"),
                "{unknown} {rest}"
            );
        }
    }
    sandbox
        .no_content("DELETE", &format!("/{pid}"), &json!({}))
        .await;
    rig.client.destroy_sandbox(&sandbox.id).await.unwrap();
    let (status, code, _) = answer(sandbox.request("GET", "")).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
}
