//! Commands with everything about them in one answer, and a sandbox with its
//! first one.

use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};

struct Commands {
    rig: Rig,
    base: String,
}

impl Commands {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let base = format!("/sandboxes/{}/commands", rig.sandbox().await.id);
        Self { rig, base }
    }

    async fn post(&self, body: Value) -> (u16, String, Value) {
        let (status, code, body) = answer(self.rig.request("POST", &self.base).json(&body)).await;
        (status, code, body)
    }

    async fn get(&self, rest: &str) -> Value {
        let path = format!("{}{rest}", self.base);
        let (status, _, body) = answer(self.rig.request("GET", &path)).await;
        assert_eq!(status, 200, "{body}");
        body["data"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_fed_and_told_whole() {
    let commands = Commands::new().await;
    let body = json!({"command": "cat; echo err >&2; exit 3", "stdin": "in", "cwd": "/tmp"});
    let (status, _, body) = commands.post(body).await;
    let data = &body["data"];
    assert_eq!(
        (status, &data["stdout"], &data["stderr"]),
        (200, &json!("in"), &json!("err\n"))
    );
    assert_eq!(
        (&data["exit_code"], &data["timed_out"]),
        (&json!(3), &json!(false))
    );
    let large = "y".repeat(256 * 1024);
    let (_, _, body) = commands
        .post(json!({"command": "wc -c", "stdin": large}))
        .await;
    assert_eq!(body["data"]["stdout"].as_str().unwrap().trim(), "262144");
    // Nobody reads it; that is no error.
    let (_, _, body) = commands
        .post(json!({"command": "true", "stdin": large}))
        .await;
    assert_eq!(body["data"]["exit_code"], 0);
    // Without input there is none, and nobody waits for any.
    let (_, _, body) = commands.post(json!({"command": "cat"})).await;
    assert_eq!(body["data"]["stdout"], "");
    let slow = json!({"command": "echo first; sleep 600", "timeout_seconds": 1});
    let (status, _, body) = commands.post(slow).await;
    let data = &body["data"];
    assert_eq!(
        (status, &data["timed_out"], &data["exit_code"]),
        (200, &json!(true), &json!(124))
    );
    assert_eq!(data["stdout"], "first\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_command_goes_on_and_is_killed() {
    let commands = Commands::new().await;
    let body = json!({"command": "cat; echo up; sleep 600", "stdin": "fed ", "detached": true, "name": "web"});
    let (status, _, body) = commands.post(body).await;
    assert_eq!((status, &body["data"]["status"]), (201, &json!("running")));
    let pid = body["data"]["pid"].as_u64().unwrap();
    let up = || async { commands.get(&format!("/{pid}/logs")).await == "fed up\n" };
    eventually("its output", up).await;
    assert_eq!(commands.get("").await[0]["name"], "web");
    let path = format!("{}/{pid}/kill", commands.base);
    let (status, _, killed) = answer(commands.rig.request("POST", &path)).await;
    assert_eq!((status, &killed["data"]["status"]), (200, &json!("exited")));
    assert_eq!(commands.get(&format!("/{pid}")).await["status"], "exited");
    let (status, code, _) = answer(
        commands
            .rig
            .request("POST", &format!("{}/0/kill", commands.base)),
    )
    .await;
    assert_eq!((status, code.as_str()), (404, "PROCESS_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_commands_are_refused_by_name() {
    let commands = Commands::new().await;
    for (body, field) in [
        (json!({}), "command"),
        (
            json!({"command": "true", "timeout_seconds": 601}),
            "timeout_seconds",
        ),
        (
            json!({"command": "true", "timeout_seconds": 0}),
            "timeout_seconds",
        ),
        (json!({"command": "true", "tty": true}), "tty"),
        (
            json!({"command": "true", "interactive": true}),
            "interactive",
        ),
        (json!({"command": "true", "user": "-x; reboot"}), "user"),
        (
            json!({"command": "true", "user": "a", "sudo": true}),
            "sudo",
        ),
        (json!({"command": "true", "cwd": "a\u{0}"}), "cwd"),
        (
            json!({"command": "true", "stdin": "x".repeat(256 * 1024 + 1)}),
            "stdin",
        ),
        (json!({"command": "true", "name": "x".repeat(129)}), "name"),
    ] {
        let (status, code, answer) = commands.post(body.clone()).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
        assert_eq!(answer["error"]["details"][0]["field"], field, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_comes_up_is_worth_waiting_for() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let (_, _, body) = answer(rig.request("POST", "/sandboxes?wait=0").json(&json!({}))).await;
    let path = format!("/sandboxes/{}/commands", body["id"].as_str().unwrap());
    let request = rig.request("POST", &path).json(&json!({"command": "true"}));
    let response = request.send().await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers().contains_key("retry-after")
        ),
        (409, true)
    );
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "SANDBOX_STARTING");
    assert_eq!(body["error"]["retryable"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_made_for_its_first_command_and_stays() {
    let rig = Rig::new().await;
    let run = |body: Value| answer(rig.request("POST", "/sandboxes/run").json(&body));
    let body = json!({"command": "echo $WHO; echo err >&2; exit 4", "env": {"WHO": "me"},
        "name": "first", "timeout_sec": 900});
    let (status, _, body) = run(body).await;
    let data = &body["data"];
    assert_eq!(
        (status, &data["stdout"], &data["exit_code"]),
        (201, &json!("me\n"), &json!(4)),
        "{body}"
    );
    assert_eq!(
        (&data["name"], &data["state"], &data["timeout_sec"]),
        (&json!("first"), &json!("running"), &json!(900))
    );
    let found = rig
        .client
        .get_sandbox(data["id"].as_str().unwrap())
        .await
        .unwrap();
    assert!(found.ready);

    let (status, code, body) = run(json!({"command": "sleep 600", "timeout": 1})).await;
    assert_eq!((status, code.as_str()), (504, "EXEC_TIMEOUT"));
    let left = body["error"]["details"]["sandbox_id"].as_str().unwrap();
    assert!(rig.client.get_sandbox(left).await.unwrap().ready);

    let before = rig.fleet.running().len();
    for (body, code) in [
        (json!({}), "VALIDATION_ERROR"),
        (
            json!({"command": "true", "cpu_count": 99}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"command": "true", "cpu_count": "2"}),
            "VALIDATION_ERROR",
        ),
        (json!({"command": 5}), "VALIDATION_ERROR"),
        (json!({"command": "true", "timeout": 0}), "VALIDATION_ERROR"),
        (
            json!({"command": "true", "template_id": "windows"}),
            "INVALID_TEMPLATE",
        ),
    ] {
        let (status, told, _) = run(body.clone()).await;
        assert!(status == 400 || status == 422, "{body}");
        assert_eq!(told, code, "{body}");
    }
    assert_eq!(rig.fleet.running().len(), before, "nothing was made");
    *rig.fleet.failing.lock().unwrap() = true;
    let (status, code, body) = run(json!({"command": "true"})).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    assert!(body["error"]["details"]["sandbox_id"].is_string());
}
