//! Workspaces and projects.

use serde_json::{Value, json};

use super::Who;
use crate::rig::Rig;

fn id(body: &Value) -> String {
    body["data"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_are_made_found_changed_and_deleted() {
    let rig = Rig::new().await;
    let who = Who::of_another_tenant(&rig, "acme").await;
    let clinic = json!({"name": "Dr. Smith Clinic", "external_workspace_id": "clinic_123"});
    let made = who.post("/workspaces", clinic.clone()).await.ok(201);
    assert_eq!(made["data"]["slug"], "dr-smith-clinic");
    assert_eq!(made.get("reused"), None);
    let again = who.post("/workspaces", clinic).await.ok(200);
    assert_eq!(
        (&again["reused"], &again["data"]),
        (&json!(true), &made["data"])
    );
    for taken in [
        json!({"name": "Dr. Smith Clinic"}),
        json!({"name": "x", "slug": "default"}),
    ] {
        who.post("/workspaces", taken)
            .await
            .refused(409, "WORKSPACE_NAME_EXISTS");
    }
    let path = format!("/workspaces/{}", id(&made));
    assert_eq!(who.get(&path).await.ok(200)["data"], made["data"]);

    let change = json!({"name": "Clinic", "slug": "clinic", "external_workspace_id": null});
    let changed = who.patch(&path, change).await.ok(200);
    assert_eq!(changed["data"]["slug"], "clinic");
    assert_eq!(changed["data"]["external_workspace_id"], Value::Null);
    let taken = json!({"slug": "default"});
    who.patch(&path, taken)
        .await
        .refused(409, "WORKSPACE_NAME_EXISTS");
    for bad in [
        json!({"name": ""}),
        json!({"slug": "No"}),
        json!({"slug": "a~b"}),
    ] {
        who.patch(&path, bad).await.refused(422, "VALIDATION_ERROR");
    }
    who.post("/workspaces", json!({}))
        .await
        .refused(422, "VALIDATION_ERROR");

    let sandbox = who.sandbox(json!({"workspace_slug": "clinic"})).await;
    let held = who.get(&format!("{path}/sandboxes")).await.ok(200);
    assert_eq!(held["data"][0]["id"], sandbox.as_str());
    who.delete(&path).await.refused(409, "RESOURCE_IN_USE");
    who.delete(&format!("/sandboxes/{sandbox}")).await.ok(200);
    who.delete(&path).await.ok(204);
    who.get(&path).await.refused(404, "NOT_FOUND");
    who.get(&format!("{path}/sandboxes"))
        .await
        .refused(404, "NOT_FOUND");
    who.delete(&path).await.refused(404, "NOT_FOUND");
    // What was in it is still told, and its slug is free.
    who.get(&format!("/sandboxes/{sandbox}")).await.ok(200);
    let anew = who
        .post("/sandboxes", json!({"workspace_slug": "clinic"}))
        .await
        .ok(201);
    assert_ne!(anew["workspace_id"], made["data"]["id"]);

    let all = who.get("/workspaces").await.ok(200);
    let default = &all["data"][0];
    assert_eq!(default["is_default"], true);
    let path = format!("/workspaces/{}", default["id"].as_str().unwrap());
    who.delete(&path).await.refused(409, "RESOURCE_IN_USE");
    who.get("/workspaces/nonsense")
        .await
        .refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_are_made_found_changed_and_deleted() {
    let rig = Rig::new().await;
    let who = Who::of_another_tenant(&rig, "acme").await;
    let made = who.post(
        "/projects",
        json!({"name": "App", "external_project_id": "p1"}),
    );
    let made = made.await.ok(201);
    let again = who.post(
        "/projects",
        json!({"name": "y", "external_project_id": "p1"}),
    );
    let again = again.await.ok(200);
    assert_eq!(
        (&again["reused"], &again["data"]),
        (&json!(true), &made["data"])
    );
    who.post("/projects", json!({"name": "App"}))
        .await
        .refused(409, "NAME_TAKEN");
    // Names are a workspace's own.
    let lab = who
        .post("/workspaces", json!({"name": "Lab"}))
        .await
        .ok(201);
    let there = json!({"name": "App", "workspace_id": id(&lab)});
    let there = who.post("/projects", there).await.ok(201);
    let listed = who
        .get(&format!("/projects?workspace_id={}", id(&lab)))
        .await
        .ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let path = format!("/workspaces/{}/projects", id(&lab));
    assert_eq!(who.get(&path).await.ok(200)["data"], listed["data"]);
    let nowhere = format!("/workspaces/{}/projects", uuid::Uuid::nil());
    who.get(&nowhere).await.refused(404, "NOT_FOUND");
    let nowhere = json!({"name": "z", "workspace_id": uuid::Uuid::nil()});
    who.post("/projects", nowhere)
        .await
        .refused(404, "NOT_FOUND");

    let path = format!("/projects/{}", id(&there));
    let changed = who
        .patch(&path, json!({"name": "Site", "slug": "site"}))
        .await
        .ok(200);
    assert_eq!(changed["data"]["slug"], "site");
    who.patch(&path, json!({"slug": "default"}))
        .await
        .refused(409, "NAME_TAKEN");
    let sandbox = who.sandbox(json!({"project_id": id(&there)})).await;
    who.delete(&path).await.refused(409, "RESOURCE_IN_USE");
    who.delete(&format!("/sandboxes/{sandbox}")).await.ok(200);
    who.delete(&path).await.ok(204);
    who.get(&path).await.refused(404, "NOT_FOUND");
    let default = listed["data"][0]["id"].as_str().unwrap();
    assert_eq!(listed["data"][0]["is_default"], true);
    who.delete(&format!("/projects/{default}"))
        .await
        .refused(409, "RESOURCE_IN_USE");
    // Projects go with their workspace.
    who.delete(&format!("/workspaces/{}", id(&lab)))
        .await
        .ok(204);
    who.get(&format!("/projects/{default}"))
        .await
        .refused(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_whole_unless_a_page_is_asked_for() {
    let rig = Rig::new().await;
    let who = Who::operator(&rig);
    for number in 0..24 {
        let body = json!({"name": format!("w{number}")});
        who.post("/workspaces", body).await.ok(201);
    }
    let all = who.get("/workspaces").await.ok(200);
    assert_eq!(
        (all["data"].as_array().unwrap().len(), all.get("page")),
        (25, None)
    );
    let second = who.get("/workspaces?page=2").await.ok(200);
    assert_eq!(
        second["data"].as_array().unwrap()[..],
        all["data"].as_array().unwrap()[20..]
    );
    assert_eq!(
        second["page"],
        json!({"page": 2, "page_size": 20, "total": 25})
    );
    for bad in ["page=0", "page_size=101", "page=x", "page_size=-1"] {
        who.get(&format!("/projects?{bad}"))
            .await
            .refused(422, "VALIDATION_ERROR");
    }
}
