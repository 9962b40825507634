//! Variables of a sandbox: set, seen by what starts afterwards, kept.

use serde_json::{Value, json};

use crate::rig::{Rig, answer};

async fn said(rig: &Rig, id: &str, command: &str) -> Value {
    let request = rig.request("POST", &format!("/sandboxes/{id}/exec"));
    let (status, _, body) = answer(request.json(&json!({ "command": command }))).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["stdout"].clone()
}

async fn put(rig: &Rig, id: &str, vars: Value) -> (u16, String, Value) {
    let request = rig.request("PUT", &format!("/sandboxes/{id}/env"));
    answer(request.json(&json!({ "vars": vars }))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_hold_for_what_starts_afterwards_and_stay() {
    let rig = Rig::new().await;
    let create = json!({ "env": { "A": "1", "B": "2" } });
    let (_, _, made) = answer(rig.request("POST", "/sandboxes").json(&create)).await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/sandboxes/{id}");
    let vars =
        json!([{ "key": "B", "value": "x y", "encrypted": true }, { "key": "C", "value": "" }]);
    let (status, _, set) = put(&rig, id, vars).await;
    let var = |key: &str, value: &str| json!({ "key": key, "value": value, "encrypted": false });
    let all = json!([var("A", "1"), var("B", "x y"), var("C", "")]);
    assert_eq!((status, &set["data"]), (200, &all));
    let (_, _, listed) = answer(rig.request("GET", &format!("{path}/env"))).await;
    assert_eq!(listed["data"], all);
    assert_eq!(said(&rig, id, "echo $A-$B-${C-unset}").await, "1-x y-\n");
    // A process started at once, and one in the background.
    let (status, _, left) = answer(rig.request("DELETE", &format!("{path}/env/A"))).await;
    assert_eq!((status, left["data"].as_array().unwrap().len()), (200, 2));
    assert_eq!(said(&rig, id, "echo ${A-unset}").await, "unset\n");
    let (status, code, _) = answer(rig.request("DELETE", &format!("{path}/env/A"))).await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));

    // Also while it is paused, over a fork, and over a crash.
    answer(rig.request("POST", &format!("{path}/pause"))).await;
    let (status, ..) = put(&rig, id, json!([{ "key": "D", "value": "4" }])).await;
    assert_eq!(status, 200);
    answer(rig.request("POST", &format!("{path}/resume"))).await;
    assert_eq!(said(&rig, id, "echo $B$D").await, "x y4\n");
    let (_, _, fork) = answer(
        rig.request("POST", &format!("{path}/fork"))
            .json(&json!({})),
    )
    .await;
    let forked = fork["id"].as_str().unwrap();
    assert_eq!(said(&rig, forked, "echo $B$D").await, "x y4\n");
    let rig = rig.crash_and_restart().await;
    assert_eq!(said(&rig, id, "echo $B$D").await, "x y4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_variables_change_nothing() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let one = |key: &str, value: &str| json!([{ "key": key, "value": value }]);
    let large = "x".repeat(64 * 1024);
    for vars in [
        one("", "v"),
        one("A=B", "v"),
        one("A", "a\0b"),
        one("A", &large),
        json!([{ "key": "A", "value": "1" }, { "key": "A", "value": "2" }]),
        json!([{ "key": "A" }]),
        json!([{ "key": "A", "value": 1 }]),
        json!("A"),
        Value::Null,
    ] {
        let (status, code, _) = put(&rig, id.as_str(), vars.clone()).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{vars}");
    }
    // Each fits, both do not.
    let half = "x".repeat(40 * 1024);
    assert_eq!(put(&rig, id.as_str(), one("A", &half)).await.0, 200);
    assert_eq!(put(&rig, id.as_str(), one("B", &half)).await.0, 422);
    let path = format!("/sandboxes/{id}/env");
    let (_, _, listed) = answer(rig.request("GET", &path)).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    rig.client.destroy_sandbox(id.as_str()).await.unwrap();
    let (status, code, _) = put(&rig, id.as_str(), one("A", "1")).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    let (status, ..) = put(&rig, "sbx_nobody", one("A", "1")).await;
    assert_eq!(status, 404);
}
