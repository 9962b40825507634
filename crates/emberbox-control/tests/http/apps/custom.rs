//! Sandboxes of a tenant's own templates, and their apps.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use emberbox_core::BuildState;
use serde_json::{Value, json};

use super::{RunDir, free_port, get, start};
use crate::rig::builder::Script;
use crate::rig::{PATIENCE, Rig, answer, eventually};
use crate::templates::delete;

async fn post(rig: &Rig, path: &str, body: Value) -> (u16, String, Value) {
    answer(rig.request("POST", path).json(&body)).await
}

/// Makes a template and builds it; the build's record.
async fn build(rig: &Rig, slug: &str, spec: Value) -> Value {
    let body = json!({"name": slug, "build_spec": spec});
    let (status, _, body) = post(rig, "/sandbox-templates", body).await;
    assert_eq!(status, 201, "{body}");
    rebuild(rig, slug, json!({})).await
}

async fn rebuild(rig: &Rig, slug: &str, body: Value) -> Value {
    let path = format!("/sandbox-templates/{slug}/builds");
    let (status, _, body) = post(rig, &path, body).await;
    assert_eq!(status, 201, "{body}");
    let id = body["data"]["id"].as_str().unwrap();
    let path = format!("/sandbox-template-builds/{id}?wait={}", PATIENCE.as_secs());
    let (_, _, body) = answer(rig.request("GET", &path)).await;
    assert_eq!(body["data"]["state"], "ready", "{body}");
    body["data"].clone()
}

async fn sandbox(rig: &Rig, body: Value) -> Value {
    let (status, _, body) = post(rig, "/sandboxes", body).await;
    assert_eq!((status, &body["state"]), (201, &json!("running")), "{body}");
    body
}

fn id(sandbox: &Value) -> &str {
    sandbox["id"].as_str().unwrap()
}

async fn exec(rig: &Rig, sandbox: &Value, command: &str) -> String {
    let path = format!("/sandboxes/{}/exec", id(sandbox));
    let (status, _, body) = post(rig, &path, json!({"command": command, "working_dir": "/"})).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["stdout"].as_str().unwrap().to_owned()
}

async fn destroy(rig: &Rig, sandbox: &Value) {
    let request = rig.request("DELETE", &format!("/sandboxes/{}", id(sandbox)));
    assert_eq!(answer(request).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_boots_what_was_built_with_what_the_spec_says() {
    let rig = Rig::new().await;
    let spec = json!({
        "from": "debian", "vcpu": 2, "memoryMib": 2048, "diskMib": 4096, "workdir": "/srv",
        "env": {"MODE": "spec", "KEPT": "yes"}, "previewPort": 8080, "artifactPaths": ["/out"]
    });
    let body = json!({"name": "app", "build_spec": spec});
    assert_eq!(post(&rig, "/sandbox-templates", body).await.0, 201);
    for path in ["/sandboxes", "/sandboxes/run", "/sandboxes/batch"] {
        let body = json!({"template_id": "app", "command": "true", "count": 1});
        let (status, code, _) = post(&rig, path, body).await;
        assert_eq!(
            (status, code.as_str()),
            (409, "TEMPLATE_NOT_READY"),
            "{path}"
        );
    }
    let built = rebuild(&rig, "app", json!({})).await;
    let tpl = built["template_id"].as_str().unwrap();
    for name in ["app", tpl] {
        let made = sandbox(&rig, json!({"template_id": name, "env": {"MODE": "mine"}})).await;
        for (field, value) in [
            ("template_id", json!(name)),
            ("image_id", built["image_id"].clone()),
            ("cpu_count", json!(2)),
            ("memory_mb", json!(2048)),
            ("disk_size_mb", json!(4096)),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        assert_eq!(exec(&rig, &made, "echo $MODE $KEPT").await, "mine yes\n");
        let artifacts = get(&rig, id(&made), "artifacts").await;
        assert_eq!(artifacts["artifact_paths"], json!(["/out"]));
        assert_eq!(
            (&artifacts["workdir"], &artifacts["preview"]["port"]),
            (&json!("/srv"), &json!(8080))
        );
        // The template's own port needs no prefix.
        let (_, _, exposed) =
            post(&rig, &format!("/sandboxes/{}/expose", id(&made)), json!({})).await;
        let url = exposed["url"].as_str().unwrap();
        assert!(
            url.starts_with(&format!("http://{}.", made["slug"].as_str().unwrap())),
            "{url}"
        );
        // There is no command to start it by.
        let (status, code, _) = start(&rig, id(&made), &json!({})).await;
        assert_eq!((status, code.as_str()), (400, "MISSING_PARAM"));
        destroy(&rig, &made).await;
    }
    let own = json!({"template_id": "app", "cpu_count": 1, "memory_mb": 512});
    let made = sandbox(&rig, own).await;
    assert_eq!(
        (
            &made["cpu_count"],
            &made["memory_mb"],
            &made["disk_size_mb"]
        ),
        (&json!(1), &json!(512), &json!(4096))
    );
    let (status, code, _) = post(
        &rig,
        "/sandboxes",
        json!({"template_id": "app", "cpu_count": 5}),
    )
    .await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let (status, code, _) = post(&rig, "/sandboxes", json!({"template_id": "tpl_x"})).await;
    assert_eq!((status, code.as_str()), (400, "INVALID_TEMPLATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_or_a_delete_leaves_what_runs_alone() {
    let rig = Rig::new().await;
    let first = build(
        &rig,
        "app",
        json!({"from": "debian", "artifactPaths": ["/one"]}),
    )
    .await;
    let old = sandbox(&rig, json!({"template_id": "app"})).await;
    let next = json!({"build_spec": {"from": "debian", "artifactPaths": ["/two"]}});
    let second = rebuild(&rig, "app", next).await;
    assert_ne!(first["image_id"], second["image_id"]);
    let new = sandbox(&rig, json!({"template_id": "app"})).await;
    assert_eq!(
        (&old["image_id"], &new["image_id"]),
        (&first["image_id"], &second["image_id"])
    );
    let paths =
        async |made: &Value| get(&rig, id(made), "artifacts").await["artifact_paths"].clone();
    assert_eq!(
        (paths(&old).await, paths(&new).await),
        (json!(["/one"]), json!(["/two"]))
    );

    // While a third is built, the second is what boots.
    rig.fleet.builder.play(Script::Hang(BuildState::Building));
    let (_, _, third) = post(&rig, "/sandbox-templates/app/builds", json!({})).await;
    let newer = sandbox(&rig, json!({"template_id": "app"})).await;
    assert_eq!(newer["image_id"], second["image_id"]);
    let third = third["data"]["id"].as_str().unwrap();
    let cancel = format!("/sandbox-template-builds/{third}/cancel");
    assert_eq!(post(&rig, &cancel, json!({})).await.0, 200);

    // A fork of a sandbox is of its build too.
    let (status, _, fork) = post(&rig, &format!("/sandboxes/{}/fork", id(&old)), json!({})).await;
    assert_eq!((status, paths(&fork).await), (201, json!(["/one"])));
    assert_eq!(delete(&rig, "app").await.0, 204);
    assert_eq!(paths(&old).await, json!(["/one"]));
    let (status, code, _) = post(&rig, "/sandboxes", json!({"template_id": "app"})).await;
    assert_eq!((status, code.as_str()), (400, "INVALID_TEMPLATE"));
    // Each image goes with the last sandbox that came from it.
    for made in [&new, &newer] {
        destroy(&rig, made).await;
    }
    let images = || async { rig.fleet.builder.images() == [first["image_id"].as_str().unwrap()] };
    eventually("the second image is gone", images).await;
    let rig = rig.crash_and_restart().await;
    let (_, _, read) =
        answer(rig.request("GET", &format!("/sandboxes/{}/artifacts", id(&old)))).await;
    assert_eq!(read["data"]["artifact_paths"], json!(["/one"]));
    for made in [&old, &fork] {
        destroy(&rig, made).await;
    }
    let none = || async { rig.fleet.builder.images().is_empty() };
    eventually("the first image is gone", none).await;
}

/// A session that stands for the app a snapshot came with.
struct SnapshotApp(Child);

impl SnapshotApp {
    fn start() -> Self {
        std::fs::create_dir_all("/tmp/miosa-run").unwrap();
        let mut app = Command::new("sleep");
        let child = app.arg("1000").process_group(0).spawn().unwrap();
        std::fs::write("/tmp/miosa-run/template.pid", child.id().to_string()).unwrap();
        Self(child)
    }
}

impl Drop for SnapshotApp {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_came_with_the_snapshot_is_not_started_twice() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    *rig.fleet.builder.app_running.lock().unwrap() = true;
    let spec = json!({
        "from": "debian", "workdir": rig.path("work"), "startCmd": "sleep 2000",
        "previewPort": free_port(), "readyCmd": "true"
    });
    let built = build(&rig, "app", spec).await;
    assert_eq!(built["snapshot_manifest"]["app_running"], true);
    let app = SnapshotApp::start();
    let made = sandbox(&rig, json!({"template_id": "app", "auto_start": true})).await;
    let lifecycle = get(&rig, id(&made), "artifacts").await["lifecycle"].clone();
    assert_eq!(
        (&lifecycle["status"], &lifecycle["pid"]),
        (&json!("started"), &json!(app.0.id()))
    );
    // Its start by itself may not be over yet.
    let install = json!({"install": true});
    let over = || async { start(&rig, id(&made), &install).await.0 == 200 };
    eventually("nothing else starts the app", over).await;
    // What was asked for is there already, each time.
    for _ in 0..2 {
        let (status, _, started) = start(&rig, id(&made), &install).await;
        assert_eq!(
            (status, &started["data"]["pid"]),
            (200, &json!(app.0.id())),
            "{started}"
        );
    }
    // Another app is not.
    let other = json!({"start_command": "sleep 3000"});
    let (status, code, _) = start(&rig, id(&made), &other).await;
    assert_eq!((status, code.as_str()), (409, "RESOURCE_STATE"));
    drop(app);
    let (status, _, started) = start(&rig, id(&made), &json!({})).await;
    assert_eq!(
        (status, &started["data"]["ready"]),
        (200, &json!(true)),
        "{started}"
    );
    let (status, code, _) = start(&rig, id(&made), &json!({})).await;
    assert_eq!(
        (status, code.as_str()),
        (409, "RESOURCE_STATE"),
        "one that was started here"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_runs_as_the_specs_user_and_starts_by_itself() {
    let _run_dir = RunDir::take().await;
    let rig = Rig::new().await;
    let work = rig.path("work");
    let spec = json!({
        "from": "debian", "workdir": work, "user": "nobody",
        "startCmd": "id -un; id -gn; echo $HOME; exec sleep 1000", "readyCmd": "true"
    });
    build(&rig, "app", spec).await;
    let made = sandbox(&rig, json!({"template_id": "app", "auto_start": true})).await;
    let started =
        || async { get(&rig, id(&made), "artifacts").await["lifecycle"]["status"] == "started" };
    eventually("the app is started", started).await;
    let said = || async {
        let log = std::fs::read_to_string("/tmp/miosa-run/template.log").unwrap();
        log.lines()
            .skip(1)
            .eq(["nobody", "nogroup", "/nonexistent"])
    };
    eventually("the app says who it is", said).await;
}
