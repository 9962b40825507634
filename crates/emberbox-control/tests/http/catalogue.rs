//! The platform's templates with images of their own: who has them built, and
//! what their sandboxes boot.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use emberbox_core::BuildState;
use serde_json::{Value, json};

use crate::apps::{RunDir, get};
use crate::rig::builder::Script;
use crate::rig::{PATIENCE, Rig, answer, eventually};
use crate::tenancy::Who;

/// Everything but the first, in the order they are listed.
const SEEDED: [&str; 6] = [
    "nextjs",
    "vite-react",
    "python",
    "streamlit",
    "gradio",
    "static-html",
];

async fn seed(who: &Who<'_>, name: &str) -> Value {
    let path = format!("/admin/sandbox-templates/{name}/builds");
    who.post(&path, json!({})).await.ok(201)["data"].clone()
}

async fn over(who: &Who<'_>, build: &Value) -> Value {
    let id = build["id"].as_str().unwrap();
    let path = format!("/sandbox-template-builds/{id}?wait={}", PATIENCE.as_secs());
    who.get(&path).await.ok(200)["data"].clone()
}

async fn template(who: &Who<'_>, name: &str) -> Value {
    let path = format!("/sandbox-templates/{name}");
    who.get(&path).await.ok(200)["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_builds_everybody_boots() {
    // A sandbox without its app ends what is noted there.
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let tenant = Who::of_another_tenant(&rig, "acme").await;
    let states = async |who: &Who<'_>| {
        let list = who.get("/sandbox-templates").await.ok(200);
        let data = list["data"].as_array().unwrap().clone();
        let state = |t: &Value| (t["id"].clone(), t["state"].clone());
        data.iter().map(state).collect::<Vec<_>>()
    };
    let mut expected = vec![(json!("miosa-sandbox"), json!("ready"))];
    expected.extend(SEEDED.map(|id| (json!(id), json!("draft"))));
    assert_eq!(states(&tenant).await, expected);
    let plain = template(&tenant, "vite-react").await;
    let made = tenant.post("/sandboxes", json!({"template_id": "vite-react"}));
    let made = made.await.ok(201);
    assert_eq!(
        (&made["image_id"], &made["cpu_count"]),
        (&json!("miosa-sandbox"), &json!(1))
    );

    // By its alias too.
    let build = seed(&operator, "react-vite").await;
    assert_eq!(build["version"], 1);
    let ready = over(&operator, &build).await;
    assert_eq!(ready["state"], "ready", "{ready}");
    let asked = rig.fleet.builder.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.from, "miosa-sandbox");
    expected[2].1 = json!("ready");
    for who in [&operator, &tenant] {
        assert_eq!(states(who).await, expected, "each is told once");
        let now = template(who, "vite-react").await;
        for (field, value) in [
            ("state", &json!("ready")),
            ("status", &json!("ready")),
            ("image_id", &ready["image_id"]),
            ("ready_build_id", &ready["id"]),
            ("latest_build_id", &ready["id"]),
            ("start_command", &plain["start_command"]),
            ("build_spec", &plain["build_spec"]),
        ] {
            assert_eq!(&now[field], value, "{field}");
        }
    }
    let alias = template(&tenant, "react-vite").await;
    assert_eq!(
        (&alias["alias_of"], &alias["image_id"]),
        (&json!("vite-react"), &ready["image_id"])
    );
    for name in ["vite-react", "react-vite"] {
        let made = tenant.post("/sandboxes", json!({ "template_id": name }));
        let made = made.await.ok(201);
        for (field, value) in [
            ("template_id", json!(name)),
            ("image_id", ready["image_id"].clone()),
            ("cpu_count", json!(2)),
            ("memory_mb", json!(2048)),
            ("disk_size_mb", json!(4096)),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        let path = format!("/sandboxes/{}/artifacts", made["id"].as_str().unwrap());
        let artifacts = tenant.get(&path).await.ok(200);
        assert_eq!(artifacts["data"]["preview"]["port"], 5173);
    }

    // Built again it is another version; until that is ready the first boots.
    rig.fleet.builder.play(Script::Hang(BuildState::Building));
    let again = seed(&operator, "vite-react").await;
    assert_eq!(again["version"], 2);
    let now = template(&tenant, "vite-react").await;
    assert_eq!(
        (&now["state"], &now["ready_build_id"]),
        (&json!("ready"), &ready["id"])
    );
    let cancel = format!(
        "/sandbox-template-builds/{}/cancel",
        again["id"].as_str().unwrap()
    );
    operator.post(&cancel, json!({})).await.ok(200);
    // Without its image it is what it was.
    operator
        .delete("/sandbox-templates/vite-react")
        .await
        .ok(204);
    assert_eq!(template(&tenant, "vite-react").await, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_operator_changes_one() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let tenant = Who::of_another_tenant(&rig, "acme").await;
    let writer = operator.give(json!({"scopes": ["templates:write"]})).await;
    let path = "/admin/sandbox-templates/python/builds";
    for who in [&tenant, &writer] {
        let refused = who.post(path, json!({})).await;
        refused.refused(403, "INSUFFICIENT_SCOPE");
    }
    // An operator's key of another tenant could not follow what it began.
    let id = tenant.get("/whoami").await.ok(200)["data"]["tenant_id"].clone();
    let keys = format!("/admin/tenants/{}/api-keys", id.as_str().unwrap());
    let foreign = operator.post(&keys, json!({"scopes": ["admin"]})).await;
    let foreign = operator.with(&foreign.ok(201)["data"]["key"]);
    let refused = foreign.post(path, json!({})).await;
    refused.refused(403, "FORBIDDEN");
    for (name, status, code) in [
        ("hello", 404, "NOT_FOUND"),
        ("miosa-sandbox", 409, "RESOURCE_STATE"),
    ] {
        let path = format!("/admin/sandbox-templates/{name}/builds");
        operator.post(&path, json!({})).await.refused(status, code);
    }
    assert_eq!(rig.fleet.builder.asked.lock().unwrap().len(), 0);

    rig.fleet.builder.play(Script::Hang(BuildState::Building));
    let build = seed(&operator, "python").await;
    let id = build["id"].as_str().unwrap().to_owned();
    // Who may make templates of the operator's tenant sees it, and no more.
    writer.get("/sandbox-templates/python/builds").await.ok(200);
    for (method, path) in [
        ("DELETE", "/sandbox-templates/python".to_owned()),
        ("POST", format!("/sandbox-template-builds/{id}/cancel")),
        ("POST", format!("/sandbox-template-builds/{id}/retry")),
    ] {
        let refused = crate::tenancy::Reply::to(writer.request(method, &path)).await;
        refused.refused(403, "INSUFFICIENT_SCOPE");
    }
    // Not even an operator makes it of something else.
    let other = json!({"build_spec": {"from": "debian"}});
    for who in [&writer, &operator] {
        let refused = who.post("/sandbox-templates/python/builds", other.clone());
        refused.await.refused(403, "FORBIDDEN");
    }
    let cancel = format!("/sandbox-template-builds/{id}/cancel");
    tenant
        .post(&cancel, json!({}))
        .await
        .refused(404, "NOT_FOUND");
    operator.post(&cancel, json!({})).await.ok(200);
    let retry = format!("/sandbox-template-builds/{id}/retry");
    rig.fleet.builder.play(Script::Succeed);
    operator.post(&retry, json!({})).await.ok(200);
    assert_eq!(over(&operator, &build).await["state"], "ready");

    // A base called like it is a registry's, whoever asks.
    let spec = json!({"name": "mine", "build_spec": {"from": "python"}});
    operator.post("/sandbox-templates", spec).await.ok(201);
    let mine = operator.post("/sandbox-templates/mine/builds", json!({}));
    over(&operator, &mine.await.ok(201)["data"]).await;
    let asked = rig.fleet.builder.asked.lock().unwrap();
    assert_eq!(asked.last().unwrap().from, "python");
}

/// Stands for the app a snapshot came with, in a session of its own.
struct Starter(Child);

impl Starter {
    fn start() -> Self {
        fs::create_dir_all("/tmp/miosa-run").unwrap();
        let mut app = Command::new("sleep");
        let child = app.arg("1000").process_group(0).spawn().unwrap();
        fs::write("/tmp/miosa-run/template.pid", child.id().to_string()).unwrap();
        fs::write("/tmp/miosa-run/template.log", "$ sleep 1000\nawake\n").unwrap();
        Self(child)
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_starter_runs_for_who_asked_and_makes_way_for_who_brings_files() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    *rig.fleet.builder.app_running.lock().unwrap() = true;
    let operator = Who::operator(&rig);
    let build = seed(&operator, "python").await;
    assert_eq!(over(&operator, &build).await["state"], "ready");

    let mut starter = Starter::start();
    let id = operator.sandbox(json!({"template_id": "python"})).await;
    let logs = get(&rig, &id, "logs").await;
    assert!(starter.has_ended(), "nobody asked for it");
    assert_eq!(
        get(&rig, &id, "artifacts").await["lifecycle"]["status"],
        "not_started"
    );
    assert!(!logs["logs"].as_str().unwrap().contains("awake"), "{logs}");

    let mut starter = Starter::start();
    let asked = json!({"template_id": "python", "auto_start": true});
    let id = operator.sandbox(asked).await;
    let artifacts = get(&rig, &id, "artifacts").await;
    assert_eq!(
        (
            &artifacts["lifecycle"]["pid"],
            &artifacts["preview"]["port"]
        ),
        (&json!(starter.0.id()), &json!(8000))
    );
    let logs = get(&rig, &id, "logs").await;
    assert!(
        logs["logs"].as_str().unwrap().contains("\nawake\n"),
        "{logs}"
    );
    let work = rig.path("work");
    let body = json!({"install": false, "start_command": "exec sleep 2000", "workdir": work});
    let path = format!("/sandboxes/{id}/template/start");
    // Its start by itself may not be over yet.
    let begun = || async { answer(rig.request("POST", &path).json(&body)).await.0 == 200 };
    eventually("the template's own start begins", begun).await;
    assert!(starter.has_ended(), "what was written since is to run");
    let artifacts = get(&rig, &id, "artifacts").await;
    assert_eq!(artifacts["lifecycle"]["status"], "started");
    assert_eq!(artifacts["workdir"], work);
    // What was started here stays.
    let again = answer(rig.request("POST", &path).json(&body)).await;
    assert_eq!((again.0, again.1.as_str()), (409, "RESOURCE_STATE"));
}
