//! Each tenant's own limits, where it meets them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Reply, Who};
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
        "max_workspaces": 20, "max_projects": 30, "max_users": 4, "max_keys": 5,
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

/// That something was refused because of this limit.
#[track_caller]
fn over(reply: &Reply, limit: &str) {
    reply.refused(409, "TENANT_LIMIT_EXCEEDED");
    assert_eq!(reply.body["error"]["details"]["limit"], limit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_no_more_places_users_and_keys_than_it_may() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let acme = Who::of_another_tenant(&rig, "acme").await;
    let me = acme.get("/whoami").await.ok(200);
    let path = format!(
        "/admin/tenants/{}",
        me["data"]["tenant_id"].as_str().unwrap()
    );
    // Each has its first one already; a workspace comes with a project.
    let limits = json!({"max_workspaces": 2, "max_projects": 3, "max_users": 2, "max_keys": 2});
    operator
        .patch(&path, json!({ "limits": limits }))
        .await
        .ok(200);

    let lab = json!({"name": "Lab", "external_workspace_id": "lab"});
    let lab = acme.post("/workspaces", lab).await.ok(201);
    let reused = json!({"name": "Any", "external_workspace_id": "lab"});
    acme.post("/workspaces", reused).await.ok(200);
    let another = acme.post("/workspaces", json!({"name": "Den"})).await;
    over(&another, "max_workspaces");
    let by_slug = acme.post("/sandboxes", json!({"workspace_slug": "den"}));
    over(&by_slug.await, "max_workspaces");
    acme.sandbox(json!({"workspace_slug": "lab"})).await;

    let app = acme.post("/projects", json!({"name": "App"})).await.ok(201);
    let another = acme.post("/projects", json!({"name": "Web"})).await;
    over(&another, "max_projects");
    let by_name = json!({"project_name": "Web"});
    over(&acme.post("/sandboxes", by_name).await, "max_projects");
    let batch = json!({"count": 1, "project_slug": "web"});
    over(&acme.post("/sandboxes/batch", batch).await, "max_projects");
    let app = format!("/projects/{}", app["data"]["id"].as_str().unwrap());
    acme.delete(&app).await.ok(204);
    acme.post("/projects", json!({"name": "Web"})).await.ok(201);

    let users = format!("{path}/users");
    let ada = operator.post(&users, json!({"name": "ada"})).await;
    let ada = ada.ok(201);
    let another = operator.post(&users, json!({"name": "eve"})).await;
    over(&another, "max_users");
    let ada = ada["data"]["id"].as_str().unwrap();
    operator.delete(&format!("{users}/{ada}")).await.ok(204);
    operator.post(&users, json!({"name": "eve"})).await.ok(201);

    let second = acme.post("/api-keys", json!({})).await.ok(201);
    over(&acme.post("/api-keys", json!({})).await, "max_keys");
    let token = json!({"user_id": "ada", "workspace_id": lab["data"]["id"]});
    let made = acme.post("/tokens/scoped", token.clone()).await;
    over(&made, "max_keys");
    let keys = format!("{path}/api-keys");
    let by_operator = operator.post(&keys, json!({})).await;
    over(&by_operator, "max_keys");
    let second = format!("/api-keys/{}", second["data"]["id"].as_str().unwrap());
    acme.post(&format!("{second}/rotate"), json!({}))
        .await
        .ok(200);
    acme.delete(&second).await.ok(204);
    acme.post("/tokens/scoped", token).await.ok(201);
}
