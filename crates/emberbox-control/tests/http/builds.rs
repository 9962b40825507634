//! Builds of templates: how they go on, end, and are followed.

use std::time::Duration;

use emberbox_control::Settings;
use emberbox_core::{BuildErrorCode, BuildState};
use serde_json::{Value, json};

use crate::rig::builder::{PHASES, Script};
use crate::rig::{PATIENCE, Rig, answer, eventually};
use crate::templates::{create, delete};

async fn post(rig: &Rig, path: &str, body: Value) -> (u16, String, Value) {
    answer(rig.request("POST", path).json(&body)).await
}

async fn build(rig: &Rig, template: &str) -> String {
    let path = format!("/sandbox-templates/{template}/builds");
    let (status, _, body) = post(rig, &path, json!({})).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(body["data"]["state"], "queued");
    body["data"]["id"].as_str().unwrap().to_owned()
}

async fn get(rig: &Rig, build: &str, rest: &str) -> Value {
    let path = format!("/sandbox-template-builds/{build}{rest}");
    let (status, _, body) = answer(rig.request("GET", &path)).await;
    assert_eq!(status, 200, "{body}");
    body["data"].clone()
}

/// The build once it is over.
async fn over(rig: &Rig, build: &str) -> Value {
    let seconds = PATIENCE.as_secs();
    get(rig, build, &format!("?wait={seconds}")).await
}

async fn in_state(rig: &Rig, build: &str, state: BuildState) {
    let is = || async { get(rig, build, "").await["state"] == state.as_str() };
    eventually(state.as_str(), is).await;
}

async fn act(rig: &Rig, build: &str, action: &str) -> (u16, String, Value) {
    post(
        rig,
        &format!("/sandbox-template-builds/{build}/{action}"),
        json!({}),
    )
    .await
}

/// The names of a build's events, in order.
async fn events(rig: &Rig, build: &str) -> Vec<String> {
    let events = get(rig, build, "/logs").await;
    let events = events.as_array().unwrap().iter();
    events
        .map(|event| event["event"].as_str().unwrap().to_owned())
        .collect()
}

/// The data of a stream's events until it ends.
async fn stream(request: reqwest::RequestBuilder) -> Vec<Value> {
    let response = tokio::time::timeout(PATIENCE, request.send())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.status(), 200);
    let text = tokio::time::timeout(PATIENCE, response.text())
        .await
        .unwrap()
        .unwrap();
    let mut events = Vec::new();
    for frame in text.split("\n\n").filter(|frame| frame.contains("data: ")) {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(field("event: "), Some("build_event"), "{frame}");
        let data: Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
        assert_eq!(
            field("id: "),
            Some(data["id"].to_string().as_str()),
            "{frame}"
        );
        events.push(data);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_through_every_phase_and_tells_of_it() {
    let rig = Rig::new().await;
    *rig.fleet.builder.lines.lock().unwrap() = 2;
    create(&rig, "app").await;
    let id = build(&rig, "app").await;
    let ready = over(&rig, &id).await;
    for (field, value) in [
        ("state", json!("ready")),
        ("status", json!("ready")),
        ("version", json!(1)),
        ("attempt", json!(1)),
        ("source_type", json!("build_spec")),
        ("error_code", Value::Null),
    ] {
        assert_eq!(ready[field], value, "{field}");
    }
    assert_eq!(ready["snapshot_manifest"]["image_id"], ready["image_id"]);
    assert!(ready["duration_ms"].as_i64().unwrap() >= 0);
    assert_eq!(
        events(&rig, &id).await,
        [
            "queued",
            "building",
            "step",
            "log",
            "log",
            "step",
            "log",
            "log",
            "snapshotting",
            "certifying",
            "distributing",
            "ready"
        ]
    );
    let log = get(&rig, &id, "/logs").await;
    assert_eq!(log[2]["command"], "apt-get install -y nginx");
    assert_eq!(
        (&log[4]["line"], &log[4]["step"]),
        (&json!("line 1 of step 0"), &json!(0))
    );
    assert_eq!(log[3]["state"], "building");
    let after = log[10]["id"].as_i64().unwrap();
    let rest = get(&rig, &id, &format!("/logs?after={after}")).await;
    assert_eq!(rest.as_array().unwrap(), &log.as_array().unwrap()[11..]);
    assert_eq!(
        get(&rig, &id, "/logs?limit=3")
            .await
            .as_array()
            .unwrap()
            .len(),
        3
    );

    let (_, _, template) = answer(rig.request("GET", "/sandbox-templates/app")).await;
    let template = &template["data"];
    assert_eq!(template["state"], "ready");
    assert_eq!(
        (&template["ready_build_id"], &template["latest_build_id"]),
        (&json!(id), &json!(id))
    );
    assert_eq!(template["image_id"], ready["image_id"]);
    for action in ["cancel", "retry"] {
        let (status, code, _) = act(&rig, &id, action).await;
        assert_eq!((status, code.as_str()), (409, "RESOURCE_STATE"), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_in_each_phase_is_told_and_can_be_tried_again() {
    let rig = Rig::new().await;
    create(&rig, "app").await;
    let failures = [
        BuildErrorCode::StepFailed,
        BuildErrorCode::SnapshotFailed,
        BuildErrorCode::CertificationFailed,
        BuildErrorCode::DistributionFailed,
    ];
    for (phase, code) in PHASES.into_iter().zip(failures) {
        rig.fleet.builder.play(Script::Fail(phase, code));
        let id = build(&rig, "app").await;
        let failed = over(&rig, &id).await;
        assert_eq!(failed["state"], "failed", "{failed}");
        assert_eq!(failed["error_code"], code.as_str());
        assert_eq!(failed["error_message"], format!("{code} while {phase}"));
        assert_eq!(failed["image_id"], Value::Null);
        assert_eq!(events(&rig, &id).await.last().unwrap(), "failed");
        let (status, code, _) = act(&rig, &id, "cancel").await;
        assert_eq!((status, code.as_str()), (409, "RESOURCE_STATE"));
        let (status, code, _) = post(&rig, "/sandboxes", json!({"template_id": "app"})).await;
        assert_eq!((status, code.as_str()), (409, "TEMPLATE_NOT_READY"));
    }
    let (_, _, list) = answer(rig.request("GET", "/sandbox-templates/app/builds")).await;
    let versions: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["version"])
        .collect();
    assert_eq!(versions, [4, 3, 2, 1]);
    rig.fleet.builder.play(Script::Succeed);
    let id = list["data"][0]["id"].as_str().unwrap();
    let (status, _, again) = act(&rig, id, "retry").await;
    assert_eq!((status, &again["data"]["state"]), (200, &json!("queued")));
    let ready = over(&rig, id).await;
    assert_eq!(
        (&ready["state"], &ready["attempt"]),
        (&json!("ready"), &json!(2))
    );
    assert_eq!(ready["error_code"], Value::Null);
    // A stream is of the last attempt; the log has every one's states.
    let path = format!("/sandbox-template-builds/{id}/logs/stream");
    let told = stream(rig.request("GET", &path)).await;
    assert_eq!(
        (&told[0]["event"], &told[0]["attempt"]),
        (&json!("queued"), &json!(2))
    );
    assert!(events(&rig, id).await.contains(&"failed".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_cancelled_in_every_state() {
    let rig = Rig::new().await;
    create(&rig, "app").await;
    for phase in PHASES {
        rig.fleet.builder.play(Script::Hang(phase));
        let id = build(&rig, "app").await;
        in_state(&rig, &id, phase).await;
        let second = build(&rig, "app").await;
        assert_eq!(get(&rig, &second, "").await["state"], "queued");
        let (status, code) = delete(&rig, "app").await;
        assert_eq!((status, code.as_str()), (409, "RESOURCE_STATE"));
        for id in [&second, &id] {
            let (status, _, body) = act(&rig, id, "cancel").await;
            assert_eq!((status, &body["data"]["state"]), (200, &json!("cancelled")));
            assert_eq!(body["data"]["error_code"], "BUILD_CANCELLED");
            let (status, code, _) = act(&rig, id, "cancel").await;
            assert_eq!((status, code.as_str()), (409, "RESOURCE_STATE"));
        }
        assert_eq!(events(&rig, &id).await.last().unwrap(), "cancelled");
    }
    assert_eq!(rig.fleet.builder.images(), Vec::<String>::new());
    assert_eq!(delete(&rig, "app").await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_too_late_leaves_no_image() {
    let rig = Rig::new().await;
    create(&rig, "app").await;
    rig.fleet
        .builder
        .play(Script::Stubborn(BuildState::Distributing));
    let id = build(&rig, "app").await;
    in_state(&rig, &id, BuildState::Distributing).await;
    assert_eq!(act(&rig, &id, "cancel").await.0, 200);
    // Another try waits until the first is really over.
    assert_eq!(act(&rig, &id, "retry").await.0, 200);
    rig.fleet.builder.play(Script::Fail(
        BuildState::Building,
        BuildErrorCode::StepFailed,
    ));
    rig.fleet.builder.release.notify_one();
    let failed = over(&rig, &id).await;
    assert_eq!(
        (&failed["state"], &failed["attempt"]),
        (&json!("failed"), &json!(2))
    );
    let gone = || async { rig.fleet.builder.images().is_empty() };
    eventually("the image of a cancelled build is gone", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_replays_then_goes_live_and_ends() {
    let rig = Rig::new().await;
    *rig.fleet.builder.lines.lock().unwrap() = 700;
    create(&rig, "app").await;
    rig.fleet.builder.play(Script::Hang(BuildState::Certifying));
    let id = build(&rig, "app").await;
    in_state(&rig, &id, BuildState::Certifying).await;
    let path = format!("/sandbox-template-builds/{id}/logs/stream");
    let (_, _, ticket) = post(&rig, "/auth/sse-ticket", json!({})).await;
    let url = format!(
        "{}{path}?ticket={}",
        rig.url,
        ticket["ticket"].as_str().unwrap()
    );
    let live = rig.http.get(&url);
    let following = tokio::spawn(stream(live));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(act(&rig, &id, "cancel").await.0, 200);
    let told = following.await.unwrap();
    assert_eq!(
        (told.len(), &told[0]["event"]),
        (2 * 700 + 7, &json!("queued"))
    );
    let last = told.last().unwrap();
    assert_eq!(
        (&last["event"], &last["error_code"]),
        (&json!("cancelled"), &json!("BUILD_CANCELLED"))
    );
    // Who comes back gets the rest only; who has seen the end, nothing.
    let middle = told[1400]["id"].to_string();
    let resumed = stream(rig.request("GET", &path).header("Last-Event-ID", middle)).await;
    assert_eq!(resumed, told[1401..]);
    let end = last["id"].to_string();
    assert!(
        stream(rig.request("GET", &path).header("Last-Event-ID", end))
            .await
            .is_empty()
    );
    let (status, code, _) = answer(rig.request("GET", &path).header("Last-Event-ID", "x")).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    // The ticket is used up.
    let (status, code, _) = answer(rig.http.get(url)).await;
    assert_eq!((status, code.as_str()), (401, "UNAUTHORIZED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_take_turns_and_are_limited() {
    let mut settings = Settings::default();
    settings.builds.max_open = 3;
    let rig = Rig::with(settings).await;
    create(&rig, "app").await;
    rig.fleet.builder.play(Script::Hang(BuildState::Building));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(build(&rig, "app").await);
    }
    in_state(&rig, &ids[0], BuildState::Building).await;
    for id in &ids[1..] {
        assert_eq!(get(&rig, id, "").await["state"], "queued");
    }
    let (status, code, _) = post(&rig, "/sandbox-templates/app/builds", json!({})).await;
    assert_eq!((status, code.as_str()), (409, "BUILD_LIMIT_EXCEEDED"));
    assert_eq!(act(&rig, &ids[0], "cancel").await.0, 200);
    in_state(&rig, &ids[1], BuildState::Building).await;
    assert_eq!(get(&rig, &ids[2], "").await["state"], "queued");
    let waited = get(&rig, &ids[2], "?wait=0.1").await;
    assert_eq!(waited["state"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_begins_its_builds_again() {
    let rig = Rig::new().await;
    create(&rig, "app").await;
    rig.fleet
        .builder
        .play(Script::Hang(BuildState::Snapshotting));
    let id = build(&rig, "app").await;
    let waiting = build(&rig, "app").await;
    in_state(&rig, &id, BuildState::Snapshotting).await;
    rig.fleet.builder.play(Script::Succeed);
    let rig = rig.crash_and_restart().await;
    for id in [&id, &waiting] {
        let ready = over(&rig, id).await;
        assert_eq!(
            (&ready["state"], &ready["attempt"]),
            (&json!("ready"), &json!(1))
        );
    }
    assert_eq!(
        events(&rig, &id).await,
        [
            "queued",
            "building",
            "snapshotting",
            "queued",
            "building",
            "step",
            "step",
            "snapshotting",
            "certifying",
            "distributing",
            "ready"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_may_bring_a_spec_and_stand_on_another_template() {
    let rig = Rig::new().await;
    create(&rig, "base").await;
    create(&rig, "app").await;
    let on_base = json!({"from": "base", "steps": [{"run": "true"}]});
    let path = "/sandbox-templates/app/builds";
    let body = json!({"build_spec": on_base, "metadata": {"commit": "abc"}});
    let (_, _, first) = post(&rig, path, body.clone()).await;
    let failed = over(&rig, first["data"]["id"].as_str().unwrap()).await;
    assert_eq!(failed["error_code"], "BASE_IMAGE_NOT_FOUND", "{failed}");
    let base = build(&rig, "base").await;
    let image = over(&rig, &base).await["image_id"].clone();
    let (status, _, second) = post(&rig, path, body).await;
    assert_eq!(
        (status, &second["data"]["metadata"]),
        (201, &json!({"commit": "abc"}))
    );
    let ready = over(&rig, second["data"]["id"].as_str().unwrap()).await;
    assert_eq!(
        (&ready["state"], &ready["build_spec"]["from"]),
        (&json!("ready"), &json!("base"))
    );
    let asked = rig
        .fleet
        .builder
        .asked
        .lock()
        .unwrap()
        .last()
        .unwrap()
        .from
        .clone();
    assert_eq!(image, asked);
    // It is the template's spec from now on.
    let (_, _, template) = answer(rig.request("GET", "/sandbox-templates/app")).await;
    assert_eq!(template["data"]["build_spec"]["from"], "base");
    let (status, code, _) = post(&rig, path, json!({"build_spec": {"from": "alpine"}})).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_build_of_the_caller_is_not_there() {
    let rig = Rig::new().await;
    create(&rig, "app").await;
    let id = build(&rig, "app").await;
    over(&rig, &id).await;
    let other = rig
        .store
        .create_tenant("other")
        .await
        .unwrap()
        .secret
        .unwrap();
    let other = secrecy::ExposeSecret::expose_secret(&other);
    let unknown = "build_00000000000000000000000000";
    for (id, key) in [(id.as_str(), other), (unknown, other), ("x", other)] {
        for (method, rest) in [
            ("GET", ""),
            ("GET", "/logs"),
            ("GET", "/logs/stream"),
            ("POST", "/cancel"),
            ("POST", "/retry"),
        ] {
            let url = format!("{}/sandbox-template-builds/{id}{rest}", rig.url);
            let request = rig
                .http
                .request(method.parse().unwrap(), url)
                .bearer_auth(key);
            let (status, code, _) = answer(request).await;
            assert_eq!(
                (status, code.as_str()),
                (404, "NOT_FOUND"),
                "{method} {id}{rest}"
            );
        }
    }
    // With its template, a build is gone too.
    assert_eq!(delete(&rig, "app").await.0, 204);
    let (status, ..) = answer(rig.request("GET", &format!("/sandbox-template-builds/{id}"))).await;
    assert_eq!(status, 404);
    let gone = || async { rig.fleet.builder.images().is_empty() };
    eventually("the image is gone", gone).await;
}
