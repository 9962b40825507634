//! Many sandboxes asked for at once.

use emberbox_api::client::Client;
use emberbox_control::Settings;
use emberbox_core::Limits;
use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};

async fn create(rig: &Rig, body: Value) -> Value {
    let (status, _, body) = answer(rig.request("POST", "/sandboxes/batch").json(&body)).await;
    assert_eq!(status, 202, "{body}");
    body["data"].clone()
}

async fn get(rig: &Rig, batch: &Value, rest: &str) -> Value {
    let path = format!("/sandboxes/batches/{}{rest}", batch["id"].as_str().unwrap());
    let (status, _, body) = answer(rig.request("GET", &path)).await;
    assert_eq!(status, 200, "{body}");
    body["data"].clone()
}

async fn settled(rig: &Rig, batch: &Value) -> Value {
    let over = || async { !get(rig, batch, "").await["settled_at"].is_null() };
    eventually("the batch is settled", over).await;
    get(rig, batch, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_makes_what_it_was_asked_for() {
    let rig = Rig::new().await;
    let body = json!({"count": 5, "concurrency": 2, "tags": ["many"], "env": {"A": "b"}});
    let batch = create(&rig, body).await;
    assert_eq!(
        (&batch["requested_count"], &batch["concurrency"]),
        (&json!(5), &json!(2))
    );
    let over = settled(&rig, &batch).await;
    assert_eq!(
        (&over["status"], &over["completed_count"]),
        (&json!("completed"), &json!(5))
    );
    let items = get(&rig, &batch, "/items").await;
    let mut ids: Vec<_> = items
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            assert_eq!(item["status"], "completed");
            item["sandbox_id"].as_str().unwrap()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let made = rig.client.get_sandbox(ids[0]).await.unwrap();
    assert!(made.ready && made.tags == ["many"]);
    assert_eq!(
        get(&rig, &batch, "/items?limit=2")
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // What is over cannot be cancelled any more.
    let path = format!(
        "/sandboxes/batches/{}/cancel",
        batch["id"].as_str().unwrap()
    );
    let (status, _, body) = answer(rig.request("POST", &path)).await;
    assert_eq!(
        (status, &body["data"]["status"]),
        (200, &json!("completed"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_how_it_goes_and_ends() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let batch = create(&rig, json!({"count": 3, "concurrency": 1})).await;
    let path = format!(
        "/sandboxes/batches/{}/events",
        batch["id"].as_str().unwrap()
    );
    let stream = rig.request("GET", &path).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    rig.fleet.open.send_replace(true);
    let text = stream.text().await.unwrap();
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    let (last, before) = names.split_last().unwrap();
    assert_eq!(*last, "batch_settled");
    assert!(
        !before.is_empty() && before.iter().all(|name| *name == "batch_progress"),
        "{text}"
    );
    let last = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&last["completed_count"], &last["status"]),
        (&json!(3), &json!("completed"))
    );
    // Who comes late is told the end at once, with a ticket as well.
    let (_, _, ticket) = answer(rig.request("POST", "/sse/ticket").json(&json!({}))).await;
    let url = format!(
        "{}{path}?ticket={}",
        rig.url,
        ticket["ticket"].as_str().unwrap()
    );
    let late = rig
        .http
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(late.contains("event: batch_settled"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_is_not_begun() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let batch = create(&rig, json!({"count": 4, "concurrency": 1})).await;
    let begun = || async { get(&rig, &batch, "").await["creating_count"] == 1 };
    eventually("the first is begun", begun).await;
    let path = format!(
        "/sandboxes/batches/{}/cancel",
        batch["id"].as_str().unwrap()
    );
    for _ in 0..2 {
        let (status, _, body) = answer(rig.request("POST", &path)).await;
        assert_eq!(
            (status, &body["data"]["cancelled_count"]),
            (200, &json!(3)),
            "{body}"
        );
    }
    rig.fleet.open.send_replace(true);
    let over = settled(&rig, &batch).await;
    assert_eq!(
        (&over["status"], &over["completed_count"]),
        (&json!("cancelled"), &json!(1))
    );
    assert_eq!(rig.fleet.running().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_survives_the_server_and_makes_nothing_twice() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let batch = create(&rig, json!({"count": 5, "concurrency": 2})).await;
    let begun = || async { get(&rig, &batch, "").await["creating_count"] == 2 };
    eventually("two are begun", begun).await;
    let rig = rig.crash_and_restart().await;
    rig.fleet.open.send_replace(true);
    let over = settled(&rig, &batch).await;
    assert_eq!(over["completed_count"], 5, "{over}");
    assert_eq!(rig.store.undestroyed_sandboxes().await.unwrap().len(), 5);
    assert_eq!(rig.fleet.running().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_fail_say_why() {
    let limits = Limits {
        max_sandboxes: 3,
        ..Limits::default()
    };
    let rig = Rig::with(Settings {
        limits,
        ..Settings::default()
    })
    .await;
    rig.sandbox().await;
    let batch = create(&rig, json!({"count": 3})).await;
    let over = settled(&rig, &batch).await;
    assert_eq!(
        (&over["status"], &over["failed_count"]),
        (&json!("partial"), &json!(1))
    );
    let items = get(&rig, &batch, "/items").await;
    let failed = items
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["status"] == "failed")
        .unwrap();
    assert_eq!(failed["error"]["code"], "SANDBOX_LIMIT_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_and_foreign_batches() {
    let rig = Rig::new().await;
    for (body, field) in [
        (json!({}), "count"),
        (json!({"count": 0}), "count"),
        (json!({"count": 11}), "count"),
        (json!({"count": "5"}), "count"),
        (json!({"count": 1, "concurrency": 17}), "concurrency"),
        (json!({"count": 1, "slug": "mine"}), "slug"),
        (json!({"count": 1, "cpu_count": 99}), "cpu_count"),
    ] {
        let (status, code, answer) =
            answer(rig.request("POST", "/sandboxes/batch").json(&body)).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
        assert_eq!(answer["error"]["details"][0]["field"], field, "{answer}");
    }
    let batch = create(&rig, json!({"count": 1})).await;
    let other = rig.store.create_tenant("other").await.unwrap();
    // Where nobody may make a sandbox, nobody may make many.
    let theirs = rig.store.list_projects(&other.tenant, None).await.unwrap();
    let theirs = &theirs[0];
    for (mut body, field) in [
        (json!({"project_id": theirs.id}), "project_id"),
        (json!({"workspace_id": theirs.workspace_id}), "workspace_id"),
        (json!({"project_id": uuid::Uuid::nil()}), "project_id"),
    ] {
        let mut told = Vec::new();
        for path in ["/sandboxes", "/sandboxes/batch"] {
            body["count"] = json!(1);
            let (status, code, body) = answer(rig.request("POST", path).json(&body)).await;
            assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
            assert_eq!(
                body["error"]["details"][0]["field"], field,
                "{path}: {body}"
            );
            told.push(body["error"]["message"].clone());
        }
        assert_eq!(told[0], told[1]);
    }
    let other = other.secret.unwrap();
    let other_client = Client::new(&rig.url, other.clone()).unwrap();
    assert!(other_client.list_sandboxes(None).await.unwrap().is_empty());
    let id = batch["id"].as_str().unwrap();
    for (method, rest) in [
        ("GET", ""),
        ("GET", "/items"),
        ("POST", "/cancel"),
        ("GET", "/events"),
    ] {
        for id in [id, "bat_nobody"] {
            let url = format!("{}/sandboxes/batches/{id}{rest}", rig.url);
            let request = rig.http.request(method.parse().unwrap(), url);
            let request = request.bearer_auth(secrecy::ExposeSecret::expose_secret(&other));
            let (status, code, _) = answer(request).await;
            assert_eq!(
                (status, code.as_str()),
                (404, "NOT_FOUND"),
                "{method} {id}{rest}"
            );
        }
    }
    settled(&rig, &batch).await;
}
