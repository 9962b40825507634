//! Pause, resume, snapshots, forks, and time that stands still meanwhile.

use std::time::Duration;

use emberbox_api::{CreateSandbox, Sandbox};
use emberbox_control::Settings;
use emberbox_core::{Limits, VmId};
use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};

async fn post(rig: &Rig, path: &str, body: Value) -> (u16, String, Value) {
    answer(rig.request("POST", path).json(&body)).await
}

async fn ok(rig: &Rig, method: &str, path: &str, body: Value) -> Value {
    let (status, _, answer) = answer(rig.request(method, path).json(&body)).await;
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer
}

async fn with(rig: &Rig, body: Value) -> Sandbox {
    let body: CreateSandbox = serde_json::from_value(body).unwrap();
    let sandbox = rig.client.create_sandbox(&body).await.unwrap();
    assert!(sandbox.ready, "{sandbox:?}");
    sandbox
}

/// The lives that the only VM's memory went on from.
fn memory(rig: &Rig) -> Vec<VmId> {
    let running = rig.fleet.running();
    assert_eq!(running.len(), 1);
    rig.fleet.memory(&running[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sandbox_is_on_disk_and_comes_back() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let before = rig.fleet.running();

    for _twice in 0..2 {
        let paused = ok(&rig, "POST", &format!("{path}/pause"), json!({})).await;
        assert_eq!(
            (&paused["id"], &paused["state"]),
            (&json!(id), &json!("paused"))
        );
        assert_eq!(paused["ready"], false);
        assert!(rig.fleet.running().is_empty());
        assert_eq!(rig.fleet.snapshots.lock().unwrap().len(), 1);
    }
    // It is nobody's to see, and nothing works in it.
    let listed = ok(&rig, "GET", &format!("{path}/snapshots"), json!({})).await;
    assert_eq!(listed["data"], json!([]));
    for (route, body) in [
        ("exec", json!({ "command": "true" })),
        ("snapshots", json!({})),
    ] {
        let (status, code, _) = post(&rig, &format!("{path}/{route}"), body).await;
        assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    }

    for _twice in 0..2 {
        let resumed = ok(&rig, "POST", &format!("{path}/resume"), json!({})).await;
        assert_eq!(
            (&resumed["state"], &resumed["ready"]),
            (&json!("running"), &json!(true))
        );
    }
    let lives = memory(&rig);
    assert_eq!(lives[..1], before);
    assert_eq!(lives.len(), 2, "a new life, with the old one's memory");
    assert!(rig.fleet.snapshots.lock().unwrap().is_empty());

    let gone = rig.client.destroy_sandbox(id.as_str()).await.unwrap();
    assert_eq!(gone.state.as_str(), "destroyed");
    let (status, code, _) = post(&rig, &format!("{path}/pause"), json!({})).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sandbox_outlives_the_server_and_can_be_destroyed() {
    let rig = Rig::new().await;
    let kept = rig.sandbox().await.id;
    let ended = rig.sandbox().await.id;
    for id in [&kept, &ended] {
        ok(&rig, "POST", &format!("/sandboxes/{id}/pause"), json!({})).await;
    }
    let rig = rig.crash_and_restart().await;
    rig.client.destroy_sandbox(ended.as_str()).await.unwrap();
    assert_eq!(rig.fleet.snapshots.lock().unwrap().len(), 1);
    ok(
        &rig,
        "POST",
        &format!("/sandboxes/{kept}/resume"),
        json!({}),
    )
    .await;
    assert_eq!(memory(&rig).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_fails_leaves_it_running() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    *rig.fleet.failing.lock().unwrap() = true;
    for route in ["pause", "snapshots", "fork"] {
        let (status, code, body) = post(&rig, &format!("/sandboxes/{id}/{route}"), json!({})).await;
        assert_eq!((status, code.as_str()), (500, "SNAPSHOT_FAILED"), "{route}");
        assert!(!body.to_string().contains("internal detail"));
    }
    *rig.fleet.failing.lock().unwrap() = false;
    let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
    assert!(now.ready);
    assert_eq!(memory(&rig).len(), 1);
    ok(&rig, "POST", &format!("/sandboxes/{id}/pause"), json!({})).await;

    // And a resume that fails leaves it paused.
    *rig.fleet.failing.lock().unwrap() = true;
    let (status, code, _) = post(&rig, &format!("/sandboxes/{id}/resume"), json!({})).await;
    assert_eq!((status, code.as_str()), (503, "RESTORE_TRANSIENT"));
    *rig.fleet.failing.lock().unwrap() = false;
    let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
    assert_eq!(now.state.as_str(), "paused");
    ok(&rig, "POST", &format!("/sandboxes/{id}/resume"), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_cut_off_by_a_crash_is_undone_or_done() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}/pause");
    // Before the host has written anything.
    rig.fleet.open.send_replace(false);
    let request = rig.request("POST", &path);
    let pausing = tokio::spawn(async move { request.send().await });
    let row = || async { !rig.store.all_snapshots().await.unwrap().is_empty() };
    eventually("the intent", row).await;
    let rig = rig.crash_and_restart().await;
    drop(pausing);
    rig.fleet.open.send_replace(true);
    let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
    assert!(now.ready);
    assert!(rig.store.all_snapshots().await.unwrap().is_empty());
    ok(&rig, "POST", &path, json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_wakes_what_is_persistent() {
    let rig = Rig::new().await;
    let id = with(&rig, json!({ "persistent": true })).await.id;
    ok(&rig, "POST", &format!("/sandboxes/{id}/pause"), json!({})).await;
    let exec = || {
        let request = rig.request("POST", &format!("/sandboxes/{id}/exec"));
        answer(request.json(&json!({ "command": "echo up" })))
    };
    let (first, second) = tokio::join!(exec(), exec());
    for (status, _, body) in [first, second] {
        assert_eq!((status, &body["data"]["stdout"]), (200, &json!("up\n")));
    }
    assert_eq!(memory(&rig).len(), 2, "woken once");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_listed_restored_and_deleted() {
    let rig = Rig::with(Settings {
        limits: Limits {
            max_snapshots: 2,
            ..Limits::default()
        },
        ..Settings::default()
    })
    .await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let snapshots = format!("{path}/snapshots");
    let first = ok(&rig, "POST", &snapshots, json!({ "comment": "before" })).await["data"].clone();
    assert_eq!(first["comment"], "before");
    assert_eq!(
        (&first["state"], &first["sandbox_id"]),
        (&json!("ready"), &json!(id))
    );
    assert_eq!(
        (
            &first["stopped_ms"],
            &first["size_bytes"],
            &first["parent_id"]
        ),
        (&json!(1.5), &json!(4096), &Value::Null)
    );
    let second = ok(&rig, "POST", &format!("{path}/snapshot"), json!({})).await["data"].clone();
    assert_eq!(second["parent_id"], first["id"]);
    let (status, code, _) = post(&rig, &snapshots, json!({})).await;
    assert_eq!((status, code.as_str()), (409, "SNAPSHOT_LIMIT_EXCEEDED"));
    let long = "x".repeat(501);
    let (status, code, _) = post(&rig, &snapshots, json!({ "comment": long })).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));

    let listed = ok(&rig, "GET", &snapshots, json!({})).await;
    assert_eq!(listed["data"], json!([second, first]));
    let of_first = format!("{snapshots}/{}", first["id"].as_str().unwrap());
    assert_eq!(ok(&rig, "GET", &of_first, json!({})).await["data"], first);

    // Restored in place: the same sandbox with another life's memory.
    let before = rig.fleet.running();
    let restore = format!("{path}/restore/{}", first["id"].as_str().unwrap());
    for _twice in 0..2 {
        let restored = ok(&rig, "POST", &restore, json!({})).await;
        assert_eq!(
            (&restored["id"], &restored["ready"]),
            (&json!(id), &json!(true))
        );
        let lives = memory(&rig);
        assert_eq!((lives.len(), &lives[..1]), (2, &before[..]));
    }
    // Also when it is paused.
    ok(&rig, "POST", &format!("{path}/pause"), json!({})).await;
    ok(&rig, "POST", &restore, json!({})).await;
    assert_eq!(memory(&rig).len(), 2);
    assert_eq!(rig.fleet.snapshots.lock().unwrap().len(), 2);

    let deleted = rig.request("DELETE", &of_first).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let others = rig.sandbox().await.id;
    let second = second["id"].as_str().unwrap();
    for (method, path) in [
        ("GET", of_first.clone()),
        ("DELETE", of_first),
        ("POST", restore),
        ("POST", format!("{path}/restore/snap_nobody")),
        // Another sandbox's.
        ("POST", format!("/sandboxes/{others}/restore/{second}")),
        ("GET", format!("/sandboxes/{others}/snapshots/{second}")),
    ] {
        let (status, code, _) = answer(rig.request(method, &path)).await;
        assert_eq!(
            (status, code.as_str()),
            (404, "NOT_FOUND"),
            "{method} {path}"
        );
    }
    rig.client.destroy_sandbox(id.as_str()).await.unwrap();
    assert!(rig.fleet.snapshots.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_changes_nothing() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let snapshots = format!("/sandboxes/{id}/snapshots");
    let snapshot = ok(&rig, "POST", &snapshots, json!({})).await["data"]["id"].clone();
    let before = rig.fleet.running();
    // Its files are gone behind the server's back.
    rig.fleet.snapshots.lock().unwrap().clear();
    let restore = format!("/sandboxes/{id}/restore/{}", snapshot.as_str().unwrap());
    let (status, code, _) = post(&rig, &restore, json!({})).await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
    assert_eq!(rig.fleet.running(), before);
    let (status, ..) = post(
        &rig,
        &format!("/sandboxes/{id}/exec"),
        json!({ "command": "true" }),
    )
    .await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_a_vm_happens_one_after_the_other() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    rig.fleet.open.send_replace(false);
    let taking = rig.request("POST", &format!("{path}/snapshots"));
    let taking = tokio::spawn(answer(taking));
    let begun = || async { !rig.store.all_snapshots().await.unwrap().is_empty() };
    eventually("the intent", begun).await;
    for route in ["snapshots", "restore/snap_x", "fork"] {
        let (status, code, _) = post(&rig, &format!("{path}/{route}"), json!({})).await;
        let expected = if route.starts_with("restore") {
            404
        } else {
            409
        };
        assert_eq!(status, expected, "{route}: {code}");
    }
    // A pause waits its turn.
    let pausing = tokio::spawn(answer(rig.request("POST", &format!("{path}/pause"))));
    rig.fleet.open.send_replace(true);
    assert_eq!(taking.await.unwrap().0, 201);
    let (status, _, paused) = pausing.await.unwrap();
    assert_eq!((status, &paused["state"]), (200, &json!("paused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_goes_on_from_its_source() {
    let rig = Rig::new().await;
    let body = json!({ "env": { "A": "1" }, "tags": ["t"], "metadata": { "m": 1 }, "name": "one" });
    let source = with(&rig, body).await;
    let path = format!("/sandboxes/{}", source.id);
    let body = json!({ "name": "two", "env": { "B": "2" } });
    let fork = ok(&rig, "POST", &format!("{path}/fork"), body).await;
    assert_ne!(fork["id"], json!(source.id));
    assert_ne!(fork["slug"], json!(source.slug));
    assert_eq!(
        (
            &fork["name"],
            &fork["ready"],
            &fork["tags"],
            &fork["metadata"]
        ),
        (
            &json!("two"),
            &json!(true),
            &json!(["t"]),
            &json!({ "m": 1 })
        )
    );
    assert_eq!(fork["boot_path"], "snapshot");
    let exec = format!("/sandboxes/{}/exec", fork["id"].as_str().unwrap());
    let ran = ok(&rig, "POST", &exec, json!({ "command": "echo $A$B" })).await;
    assert_eq!(ran["data"]["stdout"], "12\n");
    // The snapshot it came from was made for it and is gone.
    let gone = || async { rig.fleet.snapshots.lock().unwrap().is_empty() };
    eventually("the fork's snapshot is gone", gone).await;

    // From a snapshot of its source, and from a paused source.
    let snapshot = ok(&rig, "POST", &format!("{path}/snapshots"), json!({})).await;
    let snapshot = snapshot["data"]["id"].clone();
    let body = json!({ "snapshot_id": snapshot });
    ok(&rig, "POST", &format!("{path}/fork"), body).await;
    ok(&rig, "POST", &format!("{path}/pause"), json!({})).await;
    ok(&rig, "POST", &format!("{path}/fork"), json!({})).await;
    assert_eq!(rig.fleet.running().len(), 3);
    ok(&rig, "POST", &format!("{path}/resume"), json!({})).await;
    let body = json!({ "snapshot_id": "snap_nobody" });
    let (status, ..) = post(&rig, &format!("{path}/fork"), body).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_stands_still_while_it_is_paused() {
    let rig = Rig::new().await;
    let id = with(&rig, json!({ "timeout_sec": 1 })).await.id;
    let paused = ok(&rig, "POST", &format!("/sandboxes/{id}/pause"), json!({})).await;
    let left = paused["timeout_remaining_ms"].as_i64().unwrap();
    assert!((1..=1000).contains(&left), "{paused}");
    // Another sandbox's end proves that the janitor has looked.
    let other = with(&rig, json!({ "timeout_sec": 1 })).await.id;
    let over = || async {
        let now = rig.client.get_sandbox(other.as_str()).await.unwrap();
        now.state.as_str() == "destroyed"
    };
    eventually("the other's end", over).await;
    let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
    assert_eq!(now.state.as_str(), "paused");
    assert_eq!(now.timeout_remaining_ms, Some(left));
    ok(&rig, "POST", &format!("/sandboxes/{id}/resume"), json!({})).await;
    let over = || async {
        let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
        // What it ran, without what it was paused.
        now.state.as_str() == "destroyed" && now.total_runtime_sec.is_some_and(|sec| sec <= 2)
    };
    eventually("its own end", over).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_ends_and_what_is_persistent_is_paused() {
    let rig = Rig::new().await;
    let ends = with(&rig, json!({ "idle_timeout_sec": 1 })).await.id;
    let pauses = with(&rig, json!({ "idle_timeout_sec": 1, "persistent": true }))
        .await
        .id;
    let used = with(&rig, json!({ "idle_timeout_sec": 1 })).await.id;
    // A command that goes on is a use.
    let body = json!({ "command": "sleep 3600", "timeout": 300 });
    let using = rig
        .request("POST", &format!("/sandboxes/{used}/exec"))
        .json(&body);
    let using = tokio::spawn(using.send());
    for (id, state) in [(&ends, "destroyed"), (&pauses, "paused")] {
        let reached = || async {
            let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
            now.state.as_str() == state
        };
        eventually(state, reached).await;
    }
    assert!(rig.client.get_sandbox(used.as_str()).await.unwrap().ready);
    using.abort();
    // What timed out is persistent too, and has time again once it is woken.
    let exec = format!("/sandboxes/{pauses}/exec");
    ok(&rig, "POST", &exec, json!({ "command": "true" })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_can_be_moved() {
    let rig = Rig::new().await;
    let id = with(&rig, json!({ "timeout_sec": 2 })).await.id;
    let path = format!("/sandboxes/{id}");
    let extended = ok(
        &rig,
        "POST",
        &format!("{path}/extend"),
        json!({ "timeout_sec": 900 }),
    )
    .await;
    let left = extended["timeout_remaining_ms"].as_i64().unwrap();
    assert!((890_000..=900_000).contains(&left), "{left}");
    assert_eq!(extended["timeout_sec"], 2);
    let (status, code, _) =
        post(&rig, &format!("{path}/extend"), json!({ "timeout_sec": 0 })).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    // And back: from now on two seconds.
    ok(&rig, "POST", &format!("{path}/extend"), json!({})).await;
    let over = || async {
        let now = rig.client.get_sandbox(id.as_str()).await.unwrap();
        now.state.as_str() == "destroyed"
    };
    eventually("its end", over).await;
    let (status, code, _) = post(&rig, &format!("{path}/extend"), json!({})).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_can_be_changed() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let change = json!({
        "name": "renamed", "slug": "my-own", "tags": ["a"], "metadata": { "x": [1] },
        "always_on": true, "persistent": true, "timeout_sec": 60, "idle_timeout_sec": 0,
    });
    let changed = ok(&rig, "PATCH", &path, change.clone()).await;
    for (field, value) in change.as_object().unwrap() {
        assert_eq!(&changed[field], value, "{field}");
    }
    assert_eq!(changed["timeout_remaining_ms"], Value::Null);
    assert_eq!(ok(&rig, "GET", &path, json!({})).await, changed);
    assert_eq!(ok(&rig, "PATCH", &path, json!({})).await["name"], "renamed");
    let tagged = ok(
        &rig,
        "PATCH",
        &format!("{path}/tags"),
        json!({ "tags": ["b", "c"] }),
    )
    .await;
    assert_eq!(tagged["data"]["tags"], json!(["b", "c"]));

    let other = format!("/sandboxes/{}", rig.sandbox().await.id);
    for (body, status, code) in [
        (json!({ "slug": "my-own" }), 409, "NAME_TAKEN"),
        (json!({ "slug": "No" }), 422, "VALIDATION_ERROR"),
        (json!({ "timeout_sec": -1 }), 422, "VALIDATION_ERROR"),
        (json!({ "timeout_sec": "1" }), 422, "VALIDATION_ERROR"),
        (json!({ "tags": ["a,b"] }), 422, "VALIDATION_ERROR"),
    ] {
        let (got, said, _) = answer(rig.request("PATCH", &other).json(&body)).await;
        assert_eq!((got, said.as_str()), (status, code), "{body}");
    }
    rig.client.destroy_sandbox(id.as_str()).await.unwrap();
    let (status, code, _) = answer(rig.request("PATCH", &path).json(&json!({}))).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_waits_for_its_paused_sandbox() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let body = json!({ "name": "app", "port": 8000 });
    let made = ok(&rig, "POST", &format!("/sandboxes/{id}/deploy"), body).await;
    ok(&rig, "POST", &format!("/sandboxes/{id}/pause"), json!({})).await;
    let path = format!("/deployments/{}", made["deployment_id"].as_str().unwrap());
    let shown = ok(&rig, "GET", &path, json!({})).await;
    assert_eq!(shown["data"]["state"], "stopped");
    ok(&rig, "POST", &format!("/sandboxes/{id}/resume"), json!({})).await;
    let shown = ok(&rig, "GET", &path, json!({})).await;
    assert_eq!(shown["data"]["state"], "running");
    tokio::time::timeout(
        Duration::from_secs(5),
        rig.client.destroy_sandbox(id.as_str()),
    )
    .await
    .unwrap()
    .unwrap();
}
