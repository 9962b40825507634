//! How many requests a workspace may send.

use emberbox_control::Settings;
use emberbox_core::Limits;
use serde_json::json;

use super::{Reply, Who};
use crate::rig::Rig;

async fn limited(requests_per_minute: u32) -> Rig {
    Rig::limited(Settings {
        limits: Limits {
            requests_per_minute,
            ..Limits::default()
        },
        ..Settings::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_how_long_to_wait() {
    let rig = limited(3).await;
    let operator = Who::operator(&rig);
    let id = operator.sandbox(json!({})).await;
    for _ in 0..2 {
        operator.get("/whoami").await.ok(200);
    }
    for path in [
        "/whoami",
        "/sandboxes",
        &format!("/sandboxes/{id}"),
        "/sandboxes/sbx_none",
    ] {
        let refused = operator.get(path).await;
        refused.refused(429, "RATE_LIMITED");
        let error = &refused.body["error"];
        let seconds = refused.headers["retry-after"].to_str().unwrap().to_owned();
        // Three in a minute are one in twenty seconds.
        assert_eq!(error["retry_after"], seconds.parse::<u64>().unwrap());
        assert!(
            (1..=20).contains(&error["retry_after"].as_u64().unwrap()),
            "{error}"
        );
        let ms = error["retry_after_ms"].as_u64().unwrap();
        assert!((1..=20_000).contains(&ms), "{error}");
        assert_eq!(error["retryable"], true);
    }
    // Nothing is begun by what is refused.
    operator
        .post("/sandboxes", json!({}))
        .await
        .refused(429, "RATE_LIMITED");
    assert_eq!(rig.fleet.running().len(), 1);

    // Who waits for a sandbox, and who opens a stream, is not counted.
    for _ in 0..20 {
        operator
            .get(&format!("/sandboxes/{id}/readiness"))
            .await
            .ok(200);
        let opened = operator.request("GET", &format!("/sandboxes/{id}/events"));
        assert_eq!(opened.send().await.unwrap().status(), 200);
    }
    let root = rig.url.trim_end_matches("/api/v1");
    for path in ["/health", "/ready"] {
        Reply::to(rig.http.get(format!("{root}{path}")))
            .await
            .ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_and_tenants_have_allowances_of_their_own() {
    let rig = limited(4).await;
    let operator = Who::operator(&rig);
    let lab = operator
        .post("/sandboxes", json!({"workspace_slug": "lab"}))
        .await
        .ok(201);
    let id = lab["id"].as_str().unwrap();
    let bound = operator
        .give(json!({"workspace_id": lab["workspace_id"]}))
        .await;
    for _ in 0..2 {
        operator.get("/whoami").await.ok(200);
    }
    operator.get("/whoami").await.refused(429, "RATE_LIMITED");
    // A sandbox's requests are its workspace's, whoever sends them; a bound
    // key's are those of its workspace.
    for _ in 0..2 {
        operator.get(&format!("/sandboxes/{id}")).await.ok(200);
        bound.get("/whoami").await.ok(200);
    }
    operator
        .get(&format!("/sandboxes/{id}"))
        .await
        .refused(429, "RATE_LIMITED");
    bound.get("/sandboxes").await.refused(429, "RATE_LIMITED");
    let other = Who::of_another_tenant(&rig, "other").await;
    other.get("/whoami").await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_gives_a_tenant_another_limit() {
    let rig = limited(2).await;
    let other = Who::of_another_tenant(&rig, "other").await;
    let tenant = other.get("/whoami").await.ok(200)["data"]["tenant_id"].clone();
    let path = format!("/admin/tenants/{}", tenant.as_str().unwrap());
    other.get("/whoami").await.ok(200);
    other.get("/whoami").await.refused(429, "RATE_LIMITED");
    let operator = Who::operator(&rig);
    let none = json!({"limits": {"requests_per_minute": 0}});
    operator.patch(&path, none).await.ok(200);
    for _ in 0..50 {
        other.get("/whoami").await.ok(200);
    }
}
