//! Each tenant's own limits, where it meets them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Who;
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_meets_its_own_limits_and_others_the_settings() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let acme = Who::of_another_tenant(&rig, "acme").await;
    let me = acme.get("/whoami").await.ok(200);
    let path = format!(
        "/admin/tenants/{}",
        me["data"]["tenant_id"].as_str().unwrap()
    );
    let limits = json!({
        "max_sandboxes": 2, "max_vcpus": 8, "max_memory_mib": 1024, "max_disk_mib": 3072,
        "max_snapshots": 1, "max_upload_bytes": 10, "max_exec_timeout_sec": 5,
    });
    operator
        .patch(&path, json!({ "limits": limits }))
        .await
        .ok(200);
    let me = acme.get("/whoami").await.ok(200);
    for (name, value) in limits.as_object().unwrap() {
        assert_eq!(me["data"]["limits"][name], *value, "{name}");
    }

    // More than the settings say, and less.
    acme.sandbox(json!({"cpu_count": 8, "memory_mb": 1024, "disk_mb": 3072}))
        .await;
    for (field, body) in [
        ("memory_mb", json!({"memory_mb": 1025})),
        ("disk_mb", json!({"disk_mb": 3073})),
        ("cpu_count", json!({"cpu_count": 9})),
    ] {
        let refused = acme.post("/sandboxes", body.clone()).await;
        refused.refused(422, "VALIDATION_ERROR");
        assert_eq!(refused.body["error"]["details"][0]["field"], field);
        if field != "cpu_count" {
            operator.post("/sandboxes", body).await.ok(201);
        }
    }
    let id = acme.sandbox(json!({})).await;
    acme.post("/sandboxes", json!({}))
        .await
        .refused(409, "SANDBOX_LIMIT_EXCEEDED");
    let fork = format!("/sandboxes/{id}/fork");
    acme.post(&fork, json!({}))
        .await
        .refused(409, "SANDBOX_LIMIT_EXCEEDED");

    let exec = format!("/sandboxes/{id}/exec");
    // The default is the limit where that is less.
    acme.post(&exec, json!({"command": "true", "cwd": "/"}))
        .await
        .ok(200);
    let long = json!({"command": "true", "cwd": "/", "timeout": 6});
    acme.post(&exec, long)
        .await
        .refused(422, "VALIDATION_ERROR");
    let files = format!("/sandboxes/{id}/files");
    let upload = |bytes: usize| {
        let content = STANDARD.encode(vec![b'x'; bytes]);
        json!({"path": rig.path("up"), "content": content})
    };
    acme.post(&files, upload(10)).await.ok(200);
    acme.post(&files, upload(11))
        .await
        .refused(413, "FILE_TOO_LARGE");
    let snapshots = format!("/sandboxes/{id}/snapshots");
    acme.post(&snapshots, json!({})).await.ok(201);
    acme.post(&snapshots, json!({}))
        .await
        .refused(409, "SNAPSHOT_LIMIT_EXCEEDED");

    operator.patch(&path, json!({"limits": {}})).await.ok(200);
    acme.sandbox(json!({})).await;
}
