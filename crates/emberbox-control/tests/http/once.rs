//! `Idempotency-Key`: a request happens once, however often it is sent.

use std::fs;
use std::time::Duration;

use emberbox_control::Settings;
use emberbox_core::Limits;
use emberbox_store::{OnceRequest, RequestKey};
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::rig::{Rig, answer, eventually, marker};

fn keyed(rig: &Rig, path: &str, key: &str, body: &Value) -> RequestBuilder {
    let request = rig.request("POST", path).header("idempotency-key", key);
    // As one text, so that the test knows its digest.
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

/// A command that leaves a line each time it runs.
fn leaves_a_line(rig: &Rig) -> String {
    format!("echo ran >>{}", rig.path("ran"))
}

fn runs(rig: &Rig) -> usize {
    fs::read_to_string(marker(rig, "ran")).map_or(0, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_a_repeat_alike_and_does_it_once() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let run = json!({ "command": leaves_a_line(&rig) });
    for (route, body) in [
        ("/sandboxes".to_owned(), json!({ "name": "one" })),
        ("/sandboxes/run".to_owned(), run),
        ("/sandboxes/batch".to_owned(), json!({ "count": 1 })),
        (
            format!("{path}/deploy"),
            json!({ "name": "app", "port": 8000 }),
        ),
        (format!("{path}/fork"), json!({})),
        (format!("{path}/snapshots"), json!({ "comment": "a" })),
        (format!("{path}/snapshot"), json!({})),
        (format!("{path}/pause"), json!({})),
        (format!("{path}/resume"), json!({})),
        (format!("{path}/stop"), json!({})),
    ] {
        let (status, _, first) = answer(keyed(&rig, &route, "k", &body)).await;
        assert!(status < 300, "{route}: {first}");
        let (again, _, second) = answer(keyed(&rig, &route, "k", &body)).await;
        assert_eq!(status, again, "{route}");
        if route == "/sandboxes" || route.ends_with("fork") {
            // The sandbox as it is now.
            assert_eq!(first["id"], second["id"], "{route}");
        } else {
            assert_eq!(first, second, "{route}");
        }
        let other = json!({
            "name": "another", "command": "true", "count": 1,
        });
        let (status, code, _) = answer(keyed(&rig, &route, "k", &other)).await;
        assert_eq!(
            (status, code.as_str()),
            (422, "IDEMPOTENCY_KEY_REUSED"),
            "{route}"
        );
    }
    assert_eq!(runs(&rig), 1);
    let (_, _, sandboxes) = answer(rig.request("GET", "/sandboxes")).await;
    // The first, and one each of create, run, batch and fork.
    assert_eq!(sandboxes["data"].as_array().unwrap().len(), 5);
    let (_, _, snapshots) = answer(rig.request("GET", &format!("{path}/snapshots"))).await;
    assert_eq!(snapshots["data"].as_array().unwrap().len(), 2);
    // What was answered stays answered, also when it is not so any more.
    let resumed = answer(keyed(&rig, &format!("{path}/resume"), "k", &json!({}))).await;
    assert_eq!((resumed.0, &resumed.2["state"]), (200, &json!("running")));
    let (_, _, now) = answer(rig.request("GET", &path)).await;
    assert_eq!(now["state"], "paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_not_repeated() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let (_, _, taken) = answer(rig.request("POST", &format!("{path}/snapshots"))).await;
    let restore = format!("{path}/restore/{}", taken["data"]["id"].as_str().unwrap());
    let first = answer(keyed(&rig, &restore, "k", &json!({}))).await;
    let life = rig.fleet.running();
    let second = answer(keyed(&rig, &restore, "k", &json!({}))).await;
    assert_eq!(first, second);
    assert_eq!(rig.fleet.running(), life);
    answer(keyed(&rig, &restore, "another", &json!({}))).await;
    assert_ne!(rig.fleet.running(), life);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_and_two_bodies_at_once_is_one_of_them() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let snapshots = format!("/sandboxes/{id}/snapshots");
    for (route, one, two) in [
        ("/sandboxes", json!({ "name": "a" }), json!({ "name": "b" })),
        (
            "/sandboxes/run",
            json!({ "command": "echo a" }),
            json!({ "command": "echo b" }),
        ),
        (
            &snapshots,
            json!({ "comment": "a" }),
            json!({ "comment": "b" }),
        ),
    ] {
        let (one, two) = tokio::join!(
            answer(keyed(&rig, route, "k", &one)),
            answer(keyed(&rig, route, "k", &two)),
        );
        let mut answers = [(one.0, one.1), (two.0, two.1)];
        answers.sort();
        let expected = [
            (201, String::new()),
            (422, "IDEMPOTENCY_KEY_REUSED".to_owned()),
        ];
        assert_eq!(answers, expected, "{route}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_waits_for_the_first_also_when_its_client_is_gone() {
    let rig = Rig::new().await;
    let gate = rig.path("gate");
    let command = format!(
        "{}; until [ -e {gate} ]; do sleep 0.02; done; echo done",
        leaves_a_line(&rig)
    );
    let body = json!({ "command": command });
    let run = || keyed(&rig, "/sandboxes/run", "k", &body);
    let first = tokio::spawn(run().send());
    let began = || async { runs(&rig) == 1 };
    eventually("the command", began).await;
    first.abort();
    let waiting = tokio::spawn(answer(run()));
    let (one, two) = tokio::join!(waiting, async {
        fs::write(&gate, "").unwrap();
        answer(run()).await
    });
    let one = one.unwrap();
    assert_eq!((one.0, &one.2["data"]["stdout"]), (201, &json!("done\n")));
    assert_eq!(one, two);
    assert_eq!(runs(&rig), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_in_flight_are_one() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let fork = format!("/sandboxes/{id}/fork");
    let body = json!({});
    let (one, two) = tokio::join!(
        answer(keyed(&rig, &fork, "k", &body)),
        answer(keyed(&rig, &fork, "k", &body)),
    );
    assert_eq!((one.0, two.0), (201, 201));
    assert_eq!(one.2["id"], two.2["id"]);
    assert_eq!(rig.fleet.running().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_kept() {
    let rig = Rig::with(Settings {
        limits: Limits {
            max_sandboxes: 1,
            max_snapshots: 1,
            ..Limits::default()
        },
        ..Settings::default()
    })
    .await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let snapshots = format!("{path}/snapshots");
    let (_, _, taken) = answer(rig.request("POST", &snapshots)).await;
    let body = json!({});
    let take = || answer(keyed(&rig, &snapshots, "k", &body));
    assert_eq!(take().await.1, "SNAPSHOT_LIMIT_EXCEEDED");
    let taken = format!("{snapshots}/{}", taken["data"]["id"].as_str().unwrap());
    rig.request("DELETE", &taken).send().await.unwrap();
    assert_eq!(take().await.0, 201);

    let body = json!({ "command": leaves_a_line(&rig) });
    for route in ["/sandboxes/run", "/sandboxes"] {
        let refused = answer(keyed(&rig, route, "k", &body)).await;
        assert_eq!(refused.1, "SANDBOX_LIMIT_EXCEEDED", "{route}");
    }
    rig.client.destroy_sandbox(id.as_str()).await.unwrap();
    assert_eq!(
        answer(keyed(&rig, "/sandboxes/run", "k", &body)).await.0,
        201
    );
    assert_eq!(runs(&rig), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_failed_is_not_run_again() {
    let rig = Rig::new().await;
    let command = format!("{}; sleep 60", leaves_a_line(&rig));
    let body = json!({ "command": command, "timeout": 1 });
    let run = || answer(keyed(&rig, "/sandboxes/run", "k", &body));
    let (first, second) = (run().await, run().await);
    for (status, code, body) in [&first, &second] {
        assert_eq!((*status, code.as_str()), (504, "EXEC_TIMEOUT"));
        assert!(body["error"]["details"]["sandbox_id"].is_string(), "{body}");
    }
    let message = |answer: &(u16, String, Value)| answer.2["error"]["message"].clone();
    assert_eq!(message(&first), message(&second));
    assert_eq!(runs(&rig), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_command_and_answer_runs_nothing_twice() {
    let rig = Rig::new().await;
    let body = json!({ "command": leaves_a_line(&rig) });
    // What the transaction of its create left.
    let caller = rig.store.authenticate(rig.key.expose_secret()).await;
    let caller = caller.unwrap().unwrap();
    let once = OnceRequest {
        key: RequestKey {
            tenant: caller.tenant.clone(),
            scope: "POST /api/v1/sandboxes/run".to_owned(),
            key: "k".to_owned(),
        },
        body_sha256: Sha256::digest(body.to_string()).into(),
    };
    let id = rig.sandbox().await.id;
    let taken = rig.store.sandbox(&caller.tenant, &id).await.unwrap();
    let new = new_like(&taken.unwrap());
    let inserted = rig
        .store
        .insert_sandbox(&caller, &new, Some(&once), &Limits::default())
        .await;
    inserted.unwrap();
    let rig = rig.crash_and_restart().await;
    for _twice in 0..2 {
        let (status, code, body) = answer(keyed(&rig, "/sandboxes/run", "k", &body)).await;
        assert_eq!((status, code.as_str()), (409, "IDEMPOTENCY_ANSWER_LOST"));
        assert!(body["error"]["details"]["made"].is_string(), "{body}");
    }
    assert_eq!(runs(&rig), 0);
    let (_, _, sandboxes) = answer(rig.request("GET", "/sandboxes")).await;
    assert_eq!(sandboxes["data"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_and_forks_go_on_after_a_crash() {
    let rig = Rig::new().await;
    let id = rig.sandbox().await.id;
    let path = format!("/sandboxes/{id}");
    let (_, _, taken) = answer(rig.request("POST", &format!("{path}/snapshots"))).await;
    let fork = format!("{path}/fork");
    let body = json!({ "snapshot_id": taken["data"]["id"] });
    rig.fleet.open.send_replace(false);
    let creating = tokio::spawn(keyed(&rig, "/sandboxes", "k", &json!({})).send());
    let forking = tokio::spawn(keyed(&rig, &fork, "k", &body).send());
    let caller = rig.store.authenticate(rig.key.expose_secret()).await;
    let tenant = caller.unwrap().unwrap().tenant;
    let recorded = || async {
        let all = rig.store.list_sandboxes(&tenant, &Default::default()).await;
        all.unwrap().len() == 3
    };
    eventually("both rows", recorded).await;
    let rig = rig.crash_and_restart().await;
    drop((creating, forking));
    rig.fleet.open.send_replace(true);
    for (route, body) in [("/sandboxes", json!({})), (&fork, body)] {
        let (status, _, made) = answer(keyed(&rig, route, "k", &body)).await;
        assert_eq!((status, &made["ready"]), (201, &json!(true)), "{route}");
    }
    let (_, _, sandboxes) = answer(rig.request("GET", "/sandboxes")).await;
    assert_eq!(sandboxes["data"].as_array().unwrap().len(), 3);
    // Before anything was recorded nothing is known, and it happens.
    rig.fleet.open.send_replace(false);
    let forking = tokio::spawn(keyed(&rig, &fork, "later", &json!({})).send());
    let begun = || async { rig.store.all_snapshots().await.unwrap().len() == 2 };
    eventually("the fork's snapshot", begun).await;
    let rig = rig.crash_and_restart().await;
    drop(forking);
    rig.fleet.open.send_replace(true);
    let forked = tokio::time::timeout(
        Duration::from_secs(20),
        answer(keyed(&rig, &fork, "later", &json!({}))),
    );
    assert_eq!(forked.await.unwrap().0, 201);
    let (_, _, sandboxes) = answer(rig.request("GET", "/sandboxes")).await;
    assert_eq!(sandboxes["data"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_a_tenants_own_and_bad_ones_are_refused() {
    let rig = Rig::new().await;
    let (_, _, mine) = answer(keyed(&rig, "/sandboxes", "k", &json!({}))).await;
    let other = rig.store.create_tenant("other").await.unwrap();
    let request = keyed(&rig, "/sandboxes", "k", &json!({ "name": "other" }));
    let request = request.bearer_auth(other.secret.unwrap().expose_secret());
    // The rig's own key is sent first; the last one counts for neither.
    let request = {
        let (http, built) = request.build_split();
        let mut built = built.unwrap();
        let auth = built.headers().get_all("authorization");
        let last = auth.iter().next_back().unwrap().clone();
        built.headers_mut().insert("authorization", last);
        RequestBuilder::from_parts(http, built)
    };
    let (status, _, theirs) = answer(request).await;
    assert_eq!(status, 201);
    assert_ne!(mine["id"], theirs["id"]);

    let id = mine["id"].as_str().unwrap();
    for key in ["", "ü", &"k".repeat(256)] {
        for route in [
            "/sandboxes".to_owned(),
            "/sandboxes/run".to_owned(),
            "/sandboxes/batch".to_owned(),
            format!("/sandboxes/{id}/pause"),
            format!("/sandboxes/{id}/fork"),
            format!("/sandboxes/{id}/deploy"),
        ] {
            let request = rig.request("POST", &route).json(&json!({}));
            let (status, code, body) = answer(request.header("idempotency-key", key)).await;
            assert_eq!(
                (status, code.as_str()),
                (422, "VALIDATION_ERROR"),
                "{route}"
            );
            assert_eq!(body["error"]["details"][0]["field"], "Idempotency-Key");
        }
    }
}

/// As what was asked for when this was made.
fn new_like(record: &emberbox_store::SandboxRecord) -> emberbox_store::NewSandbox {
    emberbox_store::NewSandbox {
        place: emberbox_store::PlaceRequest::default(),
        external: record.external.clone(),
        name: None,
        slug: None,
        tags: Vec::new(),
        metadata: record.metadata.clone(),
        env: record.env.clone(),
        template_id: record.template_id.clone(),
        image_id: record.image_id.clone(),
        build: None,
        size: None,
        shape: record.shape,
        timeout_sec: record.timeout_sec,
        idle_timeout_sec: None,
        always_on: false,
        persistent: false,
        auto_start: false,
        origin: None,
        vm: None,
        batch_item: None,
    }
}
