//! A machine that is full: what would need a VM is refused before anything of
//! it is recorded.

use emberbox_store::SandboxFilter;
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};

use crate::rig::{Rig, answer};

/// How many sandboxes and snapshots are recorded, destroyed ones included, and
/// how many VMs there are.
async fn recorded(rig: &Rig) -> (usize, usize, usize) {
    let tenant = rig.store.bootstrap().await.unwrap().tenant;
    let every = SandboxFilter::default();
    let sandboxes = rig.store.list_sandboxes(&tenant, &every).await.unwrap();
    let snapshots = rig.store.all_snapshots().await.unwrap();
    (sandboxes.len(), snapshots.len(), rig.fleet.running().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_host_refuses_before_anything_is_recorded() {
    let rig = Rig::new().await;
    let running = rig.sandbox().await.id;
    let paused = rig.sandbox().await.id;
    let post = |path: String, body: Value| rig.request("POST", &path).json(&body);
    let path = format!("/sandboxes/{running}/snapshots");
    let (status, _, snapshot) = answer(post(path, json!({}))).await;
    assert_eq!(status, 201, "{snapshot}");
    let snapshot = snapshot["data"]["id"].as_str().unwrap();
    answer(post(format!("/sandboxes/{paused}/pause"), json!({}))).await;
    let first = post("/sandboxes".into(), json!({})).header("Idempotency-Key", "before");
    let (_, _, first) = answer(first).await;
    let before = recorded(&rig).await;

    *rig.fleet.full.lock().unwrap() = true;
    for (path, body) in [
        ("/sandboxes".to_owned(), json!({})),
        ("/sandboxes".to_owned(), json!({"name": "n", "slug": "s"})),
        ("/sandboxes/run".to_owned(), json!({"command": "true"})),
        ("/sandboxes/batch".to_owned(), json!({"count": 3})),
        (format!("/sandboxes/{running}/fork"), json!({})),
        (
            format!("/sandboxes/{running}/fork"),
            json!({"snapshot_id": snapshot}),
        ),
        (
            format!("/sandboxes/{running}/restore/{snapshot}"),
            json!({}),
        ),
        (format!("/sandboxes/{paused}/resume"), json!({})),
    ] {
        let refused = post(path.clone(), body.clone()).send().await.unwrap();
        assert!(refused.headers().contains_key(RETRY_AFTER), "{path}");
        let (status, code, body) = answer(post(path.clone(), body)).await;
        assert_eq!((status, code.as_str()), (503, "NO_CAPACITY"), "{path}");
        assert_eq!(body["error"]["retryable"], true, "{path}");
        assert_eq!(recorded(&rig).await, before, "{path}");
    }
    assert!(rig.store.unsettled_batches().await.unwrap().is_empty());
    // What was made before needs no room.
    let again = post("/sandboxes".into(), json!({})).header("Idempotency-Key", "before");
    let (status, _, again) = answer(again).await;
    assert_eq!((status, &again["id"]), (201, &first["id"]));
    // What runs goes on, what is paused stays so.
    let exec = post(
        format!("/sandboxes/{running}/exec"),
        json!({"command": "true"}),
    );
    assert_eq!(answer(exec).await.0, 200);
    let now = rig.client.get_sandbox(paused.as_str()).await.unwrap();
    assert_eq!(now.state.as_str(), "paused");

    *rig.fleet.full.lock().unwrap() = false;
    for path in [
        format!("/sandboxes/{paused}/resume"),
        format!("/sandboxes/{running}/restore/{snapshot}"),
        format!("/sandboxes/{running}/fork"),
        "/sandboxes".to_owned(),
    ] {
        let (status, _, body) = answer(post(path.clone(), json!({}))).await;
        assert!(status < 300, "{path}: {body}");
    }
}

/// Room that was there when it was asked for may be gone when it is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_race_for_the_last_room_has_an_honest_loser() {
    let rig = Rig::new().await;
    *rig.fleet.full_at_create.lock().unwrap() = true;
    let (status, _, lost) = answer(rig.request("POST", "/sandboxes").json(&json!({}))).await;
    assert_eq!((status, &lost["state"]), (201, &json!("error")));
    let why = lost["error_message"].as_str().unwrap();
    assert!(why.contains("no capacity"), "{why}");
    assert!(rig.fleet.running().is_empty());
}
