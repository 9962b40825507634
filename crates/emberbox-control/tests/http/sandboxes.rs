//! Create, list, get, by name, destroy.

use emberbox_api::CreateSandbox;
use emberbox_api::client::Client;
use emberbox_control::Settings;
use emberbox_core::{Limits, SandboxState, VmId};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};

fn post(rig: &Rig, body: &Value) -> reqwest::RequestBuilder {
    rig.request("POST", "/sandboxes").json(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_object_has_every_field() {
    let rig = Rig::new().await;
    let asked = json!({
        "template_id": "nextjs", "size": "xs", "name": "box", "slug": "my-box",
        "tags": ["a", "b"], "metadata": {"k": [1, {"x": null}]}, "env": {"A": "1"},
        "timeout_sec": 60, "idle_timeout_sec": 30, "always_on": true, "persistent": true,
        "external_workspace_id": "clinic_123", "external_user_id": "dr",
        "external_project_id": "p", "workspace_slug": "clinic", "unknown_to_us": 1,
    });
    let (status, _, created) = answer(post(&rig, &asked)).await;
    assert_eq!(status, 201);
    for field in [
        "name",
        "slug",
        "tags",
        "metadata",
        "timeout_sec",
        "idle_timeout_sec",
        "always_on",
        "persistent",
        "external_workspace_id",
        "external_user_id",
        "external_project_id",
        "template_id",
        "size",
    ] {
        assert_eq!(created[field], asked[field], "{field}");
    }
    assert_eq!(created["state"], "running");
    assert_eq!(created["ready"], true);
    assert_eq!(created["image_id"], "miosa-sandbox");
    assert_eq!(
        (&created["cpu_count"], &created["memory_mb"]),
        (&json!(1), &json!(2048))
    );
    assert_eq!(created["disk_size_mb"], 10_240);
    assert_eq!(
        (&created["boot_path"], &created["boot_ms"]),
        (&json!("snapshot"), &json!(7))
    );
    for time in ["created_at", "started_at", "ready_at"] {
        let text = created[time].as_str().unwrap();
        assert!(text.len() == 27 && text.ends_with('Z'), "{time} {text}");
    }
    for null in ["destroyed_at", "total_runtime_sec", "error_message"] {
        assert!(
            created[null].is_null() && created.get(null).is_some(),
            "{null}"
        );
    }
    let port = rig
        .url
        .rsplit_once(':')
        .unwrap()
        .1
        .trim_end_matches("/api/v1");
    let preview = format!(
        "http://{}.sandbox.localhost:{port}",
        created["slug"].as_str().unwrap()
    );
    assert_eq!(created["preview_url"], preview);
    assert!(created.get("env").is_none(), "secrets are not echoed");
    let id = created["id"].as_str().unwrap();
    let (_, _, mut read) = answer(rig.request("GET", &format!("/sandboxes/{id}"))).await;
    read["timeout_remaining_ms"] = created["timeout_remaining_ms"].clone();
    assert_eq!(read, created);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_says_where_its_time_went() {
    let rig = Rig::new().await;
    let response = post(&rig, &json!({})).send().await.unwrap();
    let timing = response.headers()["server-timing"].to_str().unwrap();
    let names: Vec<_> = timing
        .split(", ")
        .map(|entry| entry.split_once(';').unwrap().0)
        .collect();
    let expected = ["read", "intent", "claim", "record", "how", "total"];
    assert_eq!(names, expected, "{timing}");
    assert!(timing.contains("how;desc=\"on_demand\""), "{timing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_vm_is_the_sandboxs_from_its_row_on() {
    let rig = Rig::new().await;
    let vms = [VmId::generate(), VmId::generate()];
    rig.fleet.prepared.lock().unwrap().extend(vms.clone());
    let (first, second) = (rig.sandbox().await, rig.sandbox().await);
    let third = rig.sandbox().await;
    for (sandbox, vm) in [
        (&first, Some(&vms[1])),
        (&second, Some(&vms[0])),
        (&third, None),
    ] {
        let id = sandbox.id.clone();
        let record = rig.store.sandbox(&sandbox.tenant_id, &id).await.unwrap();
        let record = record.unwrap();
        assert!(rig.fleet.running().contains(&record.vm));
        match vm {
            Some(vm) => assert_eq!(record.vm, *vm),
            None => assert!(!vms.contains(&record.vm)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_is_not_recorded_gives_its_prepared_vm_back() {
    let limits = Limits {
        max_sandboxes: 1,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let rig = Rig::with(settings).await;
    let key = |request: reqwest::RequestBuilder| request.header("idempotency-key", "same");
    let (status, _, first) = answer(key(post(&rig, &json!({})))).await;
    assert_eq!(status, 201);
    let vm = VmId::generate();
    rig.fleet.prepared.lock().unwrap().push(vm.clone());
    let (status, _, again) = answer(key(post(&rig, &json!({})))).await;
    assert_eq!((status, &again["id"]), (201, &first["id"]));
    let (status, _, _) = answer(post(&rig, &json!({}))).await;
    assert_eq!(status, 409);
    assert_eq!(*rig.fleet.prepared.lock().unwrap(), [vm]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_vm_that_is_lost_is_replaced_under_a_new_id() {
    let rig = Rig::new().await;
    let vm = VmId::generate();
    rig.fleet.prepared.lock().unwrap().push(vm.clone());
    rig.fleet.lost.lock().unwrap().push(vm.clone());
    let sandbox = rig.sandbox().await;
    let record = rig.store.sandbox(&sandbox.tenant_id, &sandbox.id).await;
    let record = record.unwrap().unwrap();
    assert_ne!(record.vm, vm);
    assert_eq!(rig.fleet.running(), [record.vm]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_creates_are_refused_and_leave_nothing() {
    let rig = Rig::new().await;
    for (body, status, code) in [
        ("{", 400, "INVALID_JSON"),
        ("[]", 422, "VALIDATION_ERROR"),
        (r#"{"cpu_count":"1"}"#, 422, "VALIDATION_ERROR"),
        (r#"{"cpu_count":99}"#, 422, "VALIDATION_ERROR"),
        (r#"{"template_id":"windows"}"#, 400, "INVALID_TEMPLATE"),
        (
            r#"{"workspace_id":"550e8400-e29b-41d4-a716-446655440000"}"#,
            422,
            "VALIDATION_ERROR",
        ),
    ] {
        let request = rig.request("POST", "/sandboxes").body(body);
        let (got, named, _) = answer(request).await;
        assert_eq!((got, named.as_str()), (status, code), "{body}");
    }
    let (status, code, _) = answer(rig.request("POST", "/sandboxes?wait=x")).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let huge = json!({"metadata": {"x": "y".repeat(2 << 20)}});
    let (status, code, _) = answer(post(&rig, &huge)).await;
    assert_eq!((status, code.as_str()), (413, "BODY_TOO_LARGE"));
    assert!(rig.client.list_sandboxes(None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_is_one_sandbox_also_in_flight() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let create = || async {
        let request = post(&rig, &json!({})).header("idempotency-key", "k");
        answer(request).await.2["id"].clone()
    };
    let opens = async {
        eventually("an intent", || async {
            !rig.client.list_sandboxes(None).await.unwrap().is_empty()
        })
        .await;
        rig.fleet.open.send_replace(true);
    };
    let (ids, ()) = tokio::join!(join_all((0..6).map(|_| create())), opens);
    assert!(
        ids.iter().all(|id| *id == ids[0] && id.is_string()),
        "{ids:?}"
    );
    assert_eq!(create().await, ids[0]);
    assert_eq!(rig.fleet.running().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_is_the_callers_choice() {
    let rig = Rig::with(Settings {
        create_grace_ms: 10,
        ..Settings::default()
    })
    .await;
    rig.fleet.open.send_replace(false);
    let create = |wait: &str| {
        let path = format!("/sandboxes{wait}");
        answer(rig.request("POST", &path))
    };
    for wait in ["", "?wait=0", "?wait=false", "?wait=0.01"] {
        let (status, _, body) = create(wait).await;
        assert_eq!(
            (status, &body["state"]),
            (201, &json!("provisioning")),
            "{wait}"
        );
        assert_eq!(body["ready"], false);
    }
    let opens = async { rig.fleet.open.send_replace(true) };
    let ((_, _, body), _) = tokio::join!(create("?wait=true"), opens);
    assert_eq!(body["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_fails_says_so_without_internals() {
    let rig = Rig::new().await;
    *rig.fleet.failing.lock().unwrap() = true;
    let (status, _, body) = answer(post(&rig, &json!({}))).await;
    assert_eq!(
        (status, &body["state"], &body["ready"]),
        (201, &json!("error"), &json!(false))
    );
    assert_eq!(body["error_message"], "the VM could not be started");
    assert!(!body.to_string().contains("internal detail"));
    let id = body["id"].as_str().unwrap();
    let (status, code, _) = answer(
        rig.request("POST", &format!("/sandboxes/{id}/exec"))
            .json(&json!({"command": "true"})),
    )
    .await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    let gone = rig.client.destroy_sandbox(id).await.unwrap();
    assert_eq!(
        (gone.state, gone.total_runtime_sec),
        (SandboxState::Destroyed, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_under_a_burst() {
    let limits = Limits {
        max_sandboxes: 3,
        ..Limits::default()
    };
    let rig = Rig::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    let body = json!({});
    let burst = (0..8).map(|_| answer(post(&rig, &body)));
    let answers = join_all(burst).await;
    let made = answers
        .iter()
        .filter(|(status, _, _)| *status == 201)
        .count();
    let refused = answers
        .iter()
        .filter(|(_, code, _)| code == "SANDBOX_LIMIT_EXCEEDED")
        .count();
    assert_eq!((made, refused), (3, 5));
    assert_eq!(rig.fleet.running().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_is_final_and_repeatable() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let first = rig.client.destroy_sandbox(id).await.unwrap();
    assert_eq!(
        (first.state, first.total_runtime_sec),
        (SandboxState::Destroyed, 1)
    );
    assert!(rig.fleet.running().is_empty());
    assert_eq!(rig.client.destroy_sandbox(id).await.unwrap(), first);
    let read = rig.client.get_sandbox(id).await.unwrap();
    assert_eq!((read.state, read.ready), (SandboxState::Destroyed, false));
    assert!(read.destroyed_at.is_some() && read.total_runtime_sec == Some(1));
    for path in ["readiness", "files?path=/"] {
        let (status, _, body) =
            answer(rig.request("GET", &format!("/sandboxes/{id}/{path}"))).await;
        assert!(status == 409 || body["data"]["ready"] == false, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_while_provisioning_leaves_nothing() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let (_, _, body) = answer(rig.request("POST", "/sandboxes?wait=0")).await;
    let id = body["id"].as_str().unwrap();
    let opens = async {
        eventually("the intent", || async {
            rig.store.unfinished_destroys().await.unwrap().len() == 1
        })
        .await;
        rig.fleet.open.send_replace(true);
    };
    let (gone, ()) = tokio::join!(rig.client.destroy_sandbox(id), opens);
    assert_eq!(gone.unwrap().state, SandboxState::Destroyed);
    assert!(rig.fleet.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_names() {
    let rig = Rig::new().await;
    let named = |name: &str, tags: &[&str]| CreateSandbox {
        name: Some(name.to_owned()),
        tags: Some(tags.iter().map(ToString::to_string).collect()),
        external_user_id: Some(format!("user of {name}")),
        ..CreateSandbox::default()
    };
    let one = rig
        .client
        .create_sandbox(&named("a/b c", &["x", "y"]))
        .await
        .unwrap();
    let two = rig
        .client
        .create_sandbox(&named("two", &["x"]))
        .await
        .unwrap();
    let ids = |query: &str| {
        let request = rig.request("GET", &format!("/sandboxes{query}"));
        async move {
            let (status, _, body) = answer(request).await;
            assert_eq!(status, 200, "{body}");
            let list = body["data"].as_array().unwrap().clone();
            list.iter()
                .map(|s| s["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        }
    };
    let (one_id, two_id) = (one.id.to_string(), two.id.to_string());
    assert_eq!(ids("").await, [two_id.clone(), one_id.clone()]);
    assert_eq!(ids("?state=running").await.len(), 2);
    assert!(ids("?state=creating").await.is_empty());
    assert_eq!(ids("?tags=x%2Cy").await, std::slice::from_ref(&one_id));
    assert_eq!(
        ids("?external_user_id=user+of+two").await,
        std::slice::from_ref(&two_id)
    );
    assert_eq!(
        ids(&format!("?workspace_id={}", one.workspace_id))
            .await
            .len(),
        2
    );
    assert_eq!(
        ids(&format!("?project_id={}", one.project_id)).await.len(),
        2
    );
    for bad in ["?state=asleep", "?workspace_id=x", "?project_id=1"] {
        let (status, code, _) = answer(rig.request("GET", &format!("/sandboxes{bad}"))).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{bad}");
    }
    let found = rig.client.get_sandbox_by_name("a/b c").await.unwrap();
    assert_eq!(found.id, one.id);
    rig.client.destroy_sandbox(&one_id).await.unwrap();
    let gone = rig.client.get_sandbox_by_name("a/b c").await.unwrap_err();
    assert_eq!(gone.code(), Some("NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_sandbox_does_not_exist() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let other = rig.store.create_tenant("other").await.unwrap();
    let other = Client::new(&rig.url, other.secret.unwrap()).unwrap();
    assert!(other.list_sandboxes(None).await.unwrap().is_empty());
    let id = sandbox.id.as_str();
    for id in [id, "sbx_00000000000000000000000000", "nonsense", "sbx_"] {
        assert_eq!(
            other.get_sandbox(id).await.unwrap_err().code(),
            Some("NOT_FOUND"),
            "{id}"
        );
        let refused = other.destroy_sandbox(id).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOT_FOUND"), "{id}");
        let refused = other.list_files(id, "/").await.unwrap_err();
        assert_eq!(refused.code(), Some("NOT_FOUND"), "{id}");
    }
    let foreign = CreateSandbox {
        workspace_id: Some(sandbox.workspace_id.to_string()),
        ..CreateSandbox::default()
    };
    let refused = other.create_sandbox(&foreign).await.unwrap_err();
    assert_eq!(refused.code(), Some("VALIDATION_ERROR"));
    assert!(rig.client.get_sandbox(id).await.unwrap().ready);
}
