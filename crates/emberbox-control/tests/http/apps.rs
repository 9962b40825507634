//! The app of a template: start, artifacts, logs. Guests share this machine's
//! `/tmp/miosa-run` here, so one test at a time.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::rig::{Rig, answer, eventually};
use crate::streams::Events;
use crate::work::alive;

mod custom;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The run directory, gone before and after.
pub(crate) struct RunDir {
    _alone: MutexGuard<'static, ()>,
}

impl RunDir {
    pub(crate) async fn take() -> Self {
        let held = ONE_AT_A_TIME.lock().await;
        remove();
        Self { _alone: held }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Some(pid) = pid() {
            let kill = format!("kill -KILL -{pid}");
            let _gone = std::process::Command::new("sh")
                .args(["-c", &kill])
                .output();
        }
        remove();
    }
}

fn remove() {
    let _absent = fs::remove_dir_all("/tmp/miosa-run");
}

fn pid() -> Option<String> {
    let pid = fs::read_to_string("/tmp/miosa-run/template.pid").ok()?;
    Some(pid.trim().to_owned())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn start(rig: &Rig, id: &str, body: &Value) -> (u16, String, Value) {
    let path = format!("/sandboxes/{id}/template/start");
    answer(rig.request("POST", &path).json(body)).await
}

pub(crate) async fn get(rig: &Rig, id: &str, what: &str) -> Value {
    let (status, _, body) = answer(rig.request("GET", &format!("/sandboxes/{id}/{what}"))).await;
    assert_eq!(status, 200, "{body}");
    body["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_installed_started_and_seen() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    assert_eq!(
        get(&rig, id, "artifacts").await["lifecycle"]["status"],
        "not_started"
    );

    let workdir = rig.path("app");
    let port = free_port();
    let body = json!({
        "workdir": workdir,
        "port": port,
        "install_command": "echo installing; echo hello > index.html",
        "start_command": "exec python3 -u -m http.server $PORT --bind 127.0.0.1",
    });
    let (status, _, started) = start(&rig, id, &body).await;
    assert_eq!(status, 200, "{started}");
    let data = &started["data"];
    assert_eq!(
        (&data["status"], &data["ready"]),
        (&json!("started"), &json!(true))
    );
    assert_eq!(data["preview_port"], port);
    assert_eq!(data["logs_path"], "/tmp/miosa-run/template.log");
    assert_eq!(data["pid_path"], "/tmp/miosa-run/template.pid");
    let url = data["preview_url"].as_str().unwrap();
    assert!(
        url.contains(&format!("//{port}-{}.sandbox.", sandbox.slug)),
        "{url}"
    );
    assert!(Path::new(&workdir).join("index.html").exists());

    let artifacts = get(&rig, id, "artifacts").await;
    assert_eq!(artifacts["lifecycle"]["status"], "started");
    assert_eq!(artifacts["lifecycle"]["pid"], data["pid"]);
    assert_eq!(artifacts["preview"], json!({"url": url, "port": port}));
    assert_eq!(artifacts["artifacts"]["paths"], json!(["/workspace"]));
    let (_, _, exposed) = answer(rig.request("POST", &format!("/sandboxes/{id}/expose"))).await;
    assert_eq!(exposed["url"], url, "the app's port is the one meant");

    let logs = get(&rig, id, "logs?lines=50").await;
    let text = logs["logs"].as_str().unwrap();
    for part in [
        "sandbox is running",
        "$ echo installing",
        "\ninstalling\n",
        "Serving HTTP",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(
        get(&rig, id, "logs?lines=1").await["lines"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // A second start says what is in the way, and can be told to clear it.
    let (status, code, refused) = start(&rig, id, &body).await;
    assert_eq!((status, code.as_str()), (409, "RESOURCE_STATE"));
    assert_eq!(refused["error"]["details"]["pid"], data["pid"]);
    let mut again = body.clone();
    again["restart"] = json!(true);
    again["install"] = json!(false);
    let (status, _, restarted) = start(&rig, id, &again).await;
    assert_eq!(status, 200, "{restarted}");
    assert!(!alive(&data["pid"].to_string()), "the first one is gone");
    let second = restarted["data"]["pid"].to_string();
    assert!(alive(&second));

    rig.client
        .exec(id, &crate::work::command(&format!("kill -KILL -{second}")))
        .await
        .unwrap();
    eventually("the app's end", || async {
        get(&rig, id, "artifacts").await["lifecycle"]["status"] == "exited"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_with_the_log() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let workdir = rig.path("app");
    let cases = [
        (
            json!({"install_command": "echo no such package; exit 7", "start_command": "true"}),
            "install",
            "with 7",
        ),
        (
            json!({"install_command": "sleep 60", "install_timeout_sec": 1, "start_command": "true"}),
            "install",
            "1 s",
        ),
        (
            json!({"start_command": "echo crashed >&2; exit 1", "port": free_port()}),
            "start",
            "ended",
        ),
        // An interpreter takes its time to find that there is nothing to run.
        (
            json!({"start_command": "sleep 1; exit 2"}),
            "start",
            "ended with 2",
        ),
    ];
    for (mut body, stage, part) in cases {
        body["workdir"] = json!(workdir);
        let (status, code, failed) = start(&rig, id, &body).await;
        assert_eq!(
            (status, code.as_str()),
            (422, "TEMPLATE_START_FAILED"),
            "{failed}"
        );
        let error = &failed["error"];
        assert_eq!(error["details"]["stage"], stage, "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
        let last = body["install_command"]
            .as_str()
            .or(body["start_command"].as_str());
        assert!(
            error["details"]["log_tail"]
                .as_str()
                .unwrap()
                .contains(last.unwrap()),
            "{error}"
        );
        let lifecycle = &get(&rig, id, "artifacts").await["lifecycle"];
        assert_eq!(
            (&lifecycle["status"], &lifecycle["error"]),
            (&json!("failed"), &error["message"])
        );
    }
    // A script that is done has not failed.
    let body = json!({"workdir": workdir, "start_command": "echo made >made.txt"});
    let (status, _, started) = start(&rig, id, &body).await;
    assert_eq!(
        (status, &started["data"]["status"]),
        (200, &json!("started"))
    );
    let lifecycle = &get(&rig, id, "artifacts").await["lifecycle"];
    assert_eq!(
        (&lifecycle["status"], &lifecycle["error"]),
        (&json!("exited"), &Value::Null)
    );
    // Slow, but alive: it goes on starting.
    let body = json!({"workdir": workdir, "start_command": "sleep 60", "start_timeout_sec": 1,
        "readiness_probe": {"type": "command", "command": "false"}});
    let (status, _, started) = start(&rig, id, &body).await;
    assert_eq!((status, &started["data"]["ready"]), (200, &json!(false)));

    for (body, code) in [
        (json!({}), "MISSING_PARAM"),
        (json!({"start_command": "x", "port": 70000}), "INVALID_PORT"),
        (
            json!({"start_command": "x", "workdir": "here"}),
            "VALIDATION_ERROR",
        ),
        (json!({"start_command": " "}), "VALIDATION_ERROR"),
        (
            json!({"start_command": "x", "install_timeout_sec": 0}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"start_command": "x", "start_timeout_sec": -5}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"start_command": "x", "readiness_probe": {"type": "magic"}}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"start_command": "x", "readiness_probe": {"type": "http"}}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"start_command": "x", "readiness_probe": {"type": "http", "url": "ftp://x"}}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"start_command": "x", "readiness_probe": {"type": "tcp", "port": 0}}),
            "VALIDATION_ERROR",
        ),
    ] {
        let (_, told, answer) = start(&rig, id, &body).await;
        assert_eq!(told, code, "{body}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_as_it_grows() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let path = format!("/sandboxes/{id}/logs/stream");
    let mut events = Events::of(rig.request("GET", &path).send().await.unwrap());
    let first = events.next().await.unwrap();
    assert_eq!(first.name, "log");
    assert!(
        first.data["line"]
            .as_str()
            .unwrap()
            .ends_with("sandbox is provisioning")
    );
    let body = json!({"workdir": rig.path("app"), "start_command": "echo grown; sleep 60"});
    let (status, _, _) = start(&rig, id, &body).await;
    assert_eq!(status, 200);
    loop {
        if events.next().await.unwrap().data["line"] == "grown" {
            break;
        }
    }
    rig.client.destroy_sandbox(id).await.unwrap();
    events.rest().await;
    let (status, _, _) = answer(rig.request("GET", &format!("/sandboxes/{id}/logs?lines=0"))).await;
    assert_eq!(status, 422);
    let after = get(&rig, id, "logs").await;
    let last = after["lines"].as_array().unwrap().last().unwrap().clone();
    assert!(
        last.as_str().unwrap().ends_with("sandbox is destroyed"),
        "{last}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_start_is_one() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}/template/start");
    let body = json!({ "start_command": "sleep 3600", "workdir": rig.path("app") });
    let start = || {
        let request = rig.request("POST", &path).json(&body);
        answer(request.header("idempotency-key", "k"))
    };
    let (one, two) = tokio::join!(start(), start());
    assert_eq!(one.0, 200, "{one:?}");
    assert_eq!(one, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_sandbox_has_the_app_of_its_snapshot() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let app = |name: &str| {
        let workdir = rig.path(name);
        json!({ "start_command": "sleep 3600", "workdir": workdir, "restart": true })
    };
    let take = async || {
        let (_, _, taken) = answer(rig.request("POST", &format!("{path}/snapshots"))).await;
        taken["data"]["id"].as_str().unwrap().to_owned()
    };
    let restore = async |snapshot: &str| {
        let restore = format!("{path}/restore/{snapshot}");
        assert_eq!(answer(rig.request("POST", &restore)).await.0, 200);
    };
    let bare = take().await;
    start(&rig, id.as_str(), &app("first")).await;
    let first = rig.store.app(&id).await.unwrap().unwrap();
    let with_first = take().await;
    let (status, _, body) = start(&rig, id.as_str(), &app("second")).await;
    assert_eq!(status, 200, "{body}");
    let second = rig.store.app(&id).await.unwrap().unwrap();
    assert_ne!(first, second);

    restore(&with_first).await;
    assert_eq!(rig.store.app(&id).await.unwrap(), Some(first.clone()));
    let body = json!({ "snapshot_id": with_first });
    let (_, _, fork) = answer(rig.request("POST", &format!("{path}/fork")).json(&body)).await;
    let forked = fork["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(rig.store.app(&forked).await.unwrap(), Some(first.clone()));
    restore(&bare).await;
    assert_eq!(rig.store.app(&id).await.unwrap(), None);
    // Also from a pause.
    answer(rig.request("POST", &format!("{path}/pause"))).await;
    restore(&with_first).await;
    assert_eq!(rig.store.app(&id).await.unwrap(), Some(first));
    let (_, _, shown) = answer(rig.request("GET", &format!("{path}/artifacts"))).await;
    assert_eq!(shown["data"]["workdir"], rig.path("first"));
}
