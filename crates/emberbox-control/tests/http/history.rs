//! Snapshots of all sandboxes, names that keep them, operations on many.

use serde_json::{Value, json};

use crate::rig::{Rig, answer, eventually};

async fn call(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, String, Value) {
    answer(rig.request(method, path).json(&body)).await
}

async fn ok(rig: &Rig, method: &str, path: &str, body: Value) -> Value {
    let (status, _, answer) = call(rig, method, path, body).await;
    assert!(status < 300, "{method} {path}: {status} {answer}");
    answer
}

async fn get(rig: &Rig, path: &str) -> Value {
    let (status, _, body) = answer(rig.request("GET", path)).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn refused(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, String) {
    let (status, code, _) = call(rig, method, path, body).await;
    (status, code)
}

/// A snapshot of a sandbox.
async fn take(rig: &Rig, id: &str) -> String {
    let path = format!("/sandboxes/{id}/snapshots");
    let taken = ok(rig, "POST", &path, json!({})).await;
    taken["data"]["id"].as_str().unwrap().to_owned()
}

async fn named_sandbox(rig: &Rig, name: &str) -> String {
    let made = ok(rig, "POST", "/sandboxes", json!({ "name": name })).await;
    made["id"].as_str().unwrap().to_owned()
}

fn ids(list: &Value) -> Vec<&str> {
    let list = list["data"].as_array().unwrap();
    list.iter()
        .map(|entry| entry["id"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_searched_in_parts_and_by_sandbox() {
    let rig = Rig::new().await;
    let web = named_sandbox(&rig, "Web 100%").await;
    let db = named_sandbox(&rig, "db").await;
    let (one, two) = (take(&rig, &web).await, take(&rig, &web).await);
    let three = take(&rig, &db).await;

    let all = get(&rig, "/snapshots").await;
    assert_eq!(ids(&all), [&three, &two, &one]);
    assert_eq!(all["page"], json!({ "limit": 50, "offset": 0, "total": 3 }));
    let first = &all["data"][0];
    assert_eq!(first["resource"]["id"], json!(db));
    assert_eq!(first["resource"]["name"], "db");
    assert_eq!(first["name"], Value::Null);
    for (query, expected) in [
        (format!("resource_id={web}"), vec![&two, &one]),
        ("q=WEB".to_owned(), vec![&two, &one]),
        ("q=%25".to_owned(), vec![&two, &one]),
        ("q=_".to_owned(), vec![&three, &two, &one]),
        (format!("q={three}"), vec![&three]),
        ("q=nothing".to_owned(), vec![]),
        ("limit=1&offset=1".to_owned(), vec![&two]),
        ("offset=9".to_owned(), vec![]),
        (
            format!(
                "workspace_id={}",
                first["resource"]["workspace_id"].as_str().unwrap()
            ),
            vec![&three, &two, &one],
        ),
        (format!("workspace_id={}", uuid::Uuid::nil()), vec![]),
    ] {
        let list = get(&rig, &format!("/snapshots?{query}")).await;
        assert_eq!(ids(&list), expected, "{query}");
    }
    let groups = get(&rig, "/snapshots/groups").await;
    let groups = groups["data"].as_array().unwrap();
    let group = |at: usize| (&groups[at]["resource"]["id"], &groups[at]["snapshot_count"]);
    assert_eq!(group(0), (&json!(db), &json!(1)));
    assert_eq!(group(1), (&json!(web), &json!(2)));
    assert_eq!(groups[1]["size_bytes"], 8192);
    for query in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1.5",
        "limit=x",
        "limit=99999999999999999999",
        "offset=-1",
        "offset=1.5",
        "offset=99999999999999999999",
        "workspace_id=x",
    ] {
        for route in ["snapshots", "snapshots/groups"] {
            let (status, code, _) = answer(rig.request("GET", &format!("/{route}?{query}"))).await;
            assert_eq!(
                (status, code.as_str()),
                (422, "VALIDATION_ERROR"),
                "{route}?{query}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_deleted_alone_together_and_never_anothers() {
    let rig = Rig::new().await;
    let id = named_sandbox(&rig, "one").await;
    let (one, two, three) = (
        take(&rig, &id).await,
        take(&rig, &id).await,
        take(&rig, &id).await,
    );
    let shown = get(&rig, &format!("/snapshots/{one}")).await;
    assert_eq!(
        (&shown["data"]["id"], &shown["dependents"]),
        (&json!(one), &json!([]))
    );
    let deleted = ok(&rig, "DELETE", &format!("/snapshots/{one}"), json!({})).await;
    assert_eq!(deleted["data"], json!({ "id": one, "deleted": true }));
    for method in ["GET", "DELETE"] {
        let gone = refused(&rig, method, &format!("/snapshots/{one}"), json!({})).await;
        assert_eq!(gone, (404, "NOT_FOUND".to_owned()));
    }
    let other = rig.store.create_tenant("other").await.unwrap();
    let theirs = rig
        .store
        .list_snapshots(&id.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(theirs.len(), 2);
    let foreign = rig
        .store
        .any_snapshot(&other.tenant, &two.parse().unwrap())
        .await;
    assert_eq!(foreign.unwrap(), None);

    let body = json!({ "ids": [two, two, "snap_nobody", "no id"] });
    let outcome = ok(&rig, "POST", "/snapshots/delete", body).await;
    assert_eq!(outcome["data"]["succeeded"], json!([two]));
    let failed = outcome["data"]["failed"].as_array().unwrap();
    assert!(failed.len() == 2 && failed.iter().all(|failed| failed["code"] == "NOT_FOUND"));
    for body in [
        json!({}),
        json!({ "ids": [] }),
        json!({ "ids": vec!["x"; 201] }),
        json!({ "ids": [three], "resource_id": id }),
        json!({ "resource_id": id }),
        json!({ "resource_id": id, "all": true }),
        json!({ "resource_id": id, "all": false, "confirm": id }),
        json!({ "resource_id": id, "all": true, "confirm": "another" }),
        json!({ "ids": three }),
    ] {
        let refused = refused(&rig, "POST", "/snapshots/delete", body.clone()).await;
        assert_eq!(refused, (422, "VALIDATION_ERROR".to_owned()), "{body}");
    }
    let body = json!({ "resource_id": "sbx_nobody", "all": true, "confirm": "sbx_nobody" });
    assert_eq!(
        refused(&rig, "POST", "/snapshots/delete", body).await.0,
        404
    );
    assert_eq!(rig.fleet.snapshots.lock().unwrap().len(), 1);
    let body = json!({ "resource_id": id, "all": true, "confirm": id });
    let outcome = ok(&rig, "POST", "/snapshots/delete", body).await;
    assert_eq!(outcome["data"]["succeeded"], json!([three]));
    assert!(rig.fleet.snapshots.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_keeps_its_snapshot_when_the_sandbox_is_gone() {
    let rig = Rig::new().await;
    let id = named_sandbox(&rig, "source").await;
    let (kept, other) = (take(&rig, &id).await, take(&rig, &id).await);
    let name = |name: &str, snapshot: &str| json!({ "name": name, "snapshot_id": snapshot });
    let made = ok(&rig, "POST", "/named-snapshots", name("v1.0", &kept)).await;
    assert_eq!(
        (
            &made["data"]["name"],
            &made["data"]["snapshot_id"],
            &made["data"]["state"]
        ),
        (&json!("v1.0"), &json!(kept), &json!("ready"))
    );
    let saved = json!({ "name": "live", "sandbox_id": id });
    let saved = ok(&rig, "POST", "/named-snapshots", saved).await;
    let saved = saved["data"]["snapshot_id"].clone();
    for (body, status, code) in [
        (name("v1.0", &other), 409, "NAME_TAKEN"),
        (
            json!({ "name": "v1.0", "sandbox_id": id }),
            409,
            "NAME_TAKEN",
        ),
        (name("v2", &kept), 409, "SNAPSHOT_ALREADY_NAMED"),
        (name("v2", "snap_nobody"), 404, "NOT_FOUND"),
        (
            json!({ "name": "v2", "sandbox_id": "sbx_nobody" }),
            404,
            "NOT_FOUND",
        ),
        (name("", &other), 422, "VALIDATION_ERROR"),
        (name("..", &other), 422, "VALIDATION_ERROR"),
        (name("a/b", &other), 422, "VALIDATION_ERROR"),
        (name("\u{fc}", &other), 422, "VALIDATION_ERROR"),
        (name(&"x".repeat(129), &other), 422, "VALIDATION_ERROR"),
        (json!({ "name": "v2" }), 422, "VALIDATION_ERROR"),
        (
            json!({ "name": "v2", "snapshot_id": other, "sandbox_id": id }),
            422,
            "VALIDATION_ERROR",
        ),
        (
            json!({ "name": "v2", "computer_id": "x" }),
            422,
            "VALIDATION_ERROR",
        ),
    ] {
        let got = refused(&rig, "POST", "/named-snapshots", body.clone()).await;
        assert_eq!(got, (status, code.to_owned()), "{body}");
    }
    // Not in the history, and not to be deleted.
    assert_eq!(ids(&get(&rig, "/snapshots").await), [&other]);
    for path in [
        format!("/snapshots/{kept}"),
        format!("/sandboxes/{id}/snapshots/{kept}"),
    ] {
        let (status, code, body) = call(&rig, "DELETE", &path, json!({})).await;
        assert_eq!((status, code.as_str()), (409, "SNAPSHOT_IN_USE"));
        let dependents = &body["error"]["details"]["dependents"];
        assert_eq!(dependents, &json!([{ "type": "name", "id": "v1.0" }]));
    }
    let listed = get(&rig, "/named-snapshots").await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);

    rig.client.destroy_sandbox(&id).await.unwrap();
    assert_eq!(rig.fleet.snapshots.lock().unwrap().len(), 2);
    let rig = rig.crash_and_restart().await;
    assert_eq!(rig.fleet.snapshots.lock().unwrap().len(), 2);
    let shown = get(&rig, "/named-snapshots/v1.0").await;
    let resource = &shown["data"]["snapshot"]["resource"];
    assert_eq!(
        (&resource["id"], &resource["state"]),
        (&json!(id), &json!("destroyed"))
    );
    let forked = ok(&rig, "POST", "/named-snapshots/v1.0/deploy", json!({})).await;
    assert_eq!(
        (&forked["data"]["ready"], &forked["data"]["name"]),
        (&json!(true), &Value::Null)
    );
    let body = json!({ "name": "again" });
    let forked = ok(&rig, "POST", &format!("/snapshots/{kept}/fork"), body).await;
    assert_eq!(forked["data"]["name"], "again");

    let removed = ok(&rig, "DELETE", "/named-snapshots/v1.0", json!({})).await;
    assert_eq!(
        removed["data"],
        json!({ "name": "v1.0", "outcome": "deleted" })
    );
    let files: Vec<_> = rig
        .fleet
        .snapshots
        .lock()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(json!(files), json!([saved]));
    for (method, path) in [
        ("GET", "/named-snapshots/v1.0"),
        ("DELETE", "/named-snapshots/v1.0"),
        ("POST", "/named-snapshots/v1.0/deploy"),
        ("POST", "/snapshots/snap_nobody/fork"),
    ] {
        assert_eq!(
            refused(&rig, method, path, json!({})).await.0,
            404,
            "{method} {path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_taken_away_gives_the_snapshot_back() {
    let rig = Rig::new().await;
    let id = named_sandbox(&rig, "source").await;
    let kept = take(&rig, &id).await;
    let body = json!({ "name": "v1", "snapshot_id": kept });
    ok(&rig, "POST", "/named-snapshots", body).await;
    let removed = ok(&rig, "DELETE", "/named-snapshots/v1", json!({})).await;
    assert_eq!(removed["data"]["outcome"], "released");
    assert_eq!(ids(&get(&rig, "/snapshots").await), [&kept]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_a_sandbox_comes_up_from_stays() {
    let rig = Rig::new().await;
    let id = named_sandbox(&rig, "source").await;
    let snapshot = take(&rig, &id).await;
    rig.fleet.open.send_replace(false);
    let fork = rig.request("POST", &format!("/snapshots/{snapshot}/fork"));
    let forking = tokio::spawn(answer(fork.json(&json!({}))));
    let row = || async {
        let starting = rig.store.starting_from(&snapshot.parse().unwrap()).await;
        starting.unwrap().len() == 1
    };
    eventually("the fork's row", row).await;
    let (status, _) = refused(&rig, "DELETE", &format!("/snapshots/{snapshot}"), json!({})).await;
    assert_eq!(status, 409);
    // Also when nobody here remembers that it is used.
    let rig = rig.crash_and_restart().await;
    drop(forking);
    let path = format!("/snapshots/{snapshot}");
    let got = refused(&rig, "DELETE", &path, json!({})).await;
    assert_eq!(got, (409, "SNAPSHOT_IN_USE".to_owned()));
    rig.fleet.open.send_replace(true);
    let up = || async { rig.fleet.running().len() == 2 };
    eventually("the fork", up).await;
    let gone = || async { refused(&rig, "DELETE", &path, json!({})).await.0 == 200 };
    eventually("its deletion", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_paused_resumed_and_destroyed_each_for_itself() {
    let rig = Rig::new().await;
    let mut sandboxes = Vec::new();
    for name in ["a", "b", "c"] {
        let body = json!({ "name": name, "tags": ["many"] });
        let made = ok(&rig, "POST", "/sandboxes", body).await;
        sandboxes.push(made["id"].as_str().unwrap().to_owned());
    }
    let alone = named_sandbox(&rig, "alone").await;
    let bulk = async |verb: &str, body: Value| {
        let path = format!("/bulk/sandboxes/{verb}");
        ok(&rig, "POST", &path, body).await["data"].clone()
    };
    let body = json!({ "ids": [sandboxes[0], "sbx_nobody", sandboxes[1], "x"] });
    let paused = bulk("pause", body).await;
    assert_eq!(paused["succeeded"], json!(sandboxes[..2]));
    let failed: Vec<_> = paused["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failed| (&failed["id"], &failed["code"]))
        .collect();
    let (nobody, x, code) = (json!("sbx_nobody"), json!("x"), json!("NOT_FOUND"));
    assert_eq!(failed, [(&nobody, &code), (&x, &code)]);
    let filter = json!({ "filter": { "tags": ["many"], "state": "paused" } });
    let resumed = bulk("resume", filter.clone()).await;
    assert_eq!(resumed["succeeded"].as_array().unwrap().len(), 2);
    assert_eq!(bulk("resume", filter).await["succeeded"], json!([]));
    let destroyed = bulk("destroy", json!({ "filter": { "tags": ["many"] } })).await;
    assert_eq!(destroyed["succeeded"].as_array().unwrap().len(), 3);
    assert_eq!(rig.fleet.running().len(), 1);
    // What is gone cannot be paused; the rest is.
    let body = json!({ "ids": [sandboxes[0], alone] });
    let paused = bulk("pause", body).await;
    assert_eq!(paused["succeeded"], json!([alone]));
    assert_eq!(paused["failed"][0]["code"], "SANDBOX_NOT_RUNNING");
    for body in [
        json!({}),
        json!({ "ids": [] }),
        json!({ "ids": [1] }),
        json!({ "filter": {} }),
        json!({ "filter": { "stat": "paused" } }),
        json!({ "filter": { "state": "asleep" } }),
        json!({ "filter": { "workspace_id": "x" } }),
        json!({ "ids": ["x"], "filter": { "state": "paused" } }),
    ] {
        for verb in ["pause", "resume", "destroy"] {
            let path = format!("/bulk/sandboxes/{verb}");
            let got = refused(&rig, "POST", &path, body.clone()).await;
            assert_eq!(got, (422, "VALIDATION_ERROR".to_owned()), "{verb} {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_listed_whole_or_in_parts() {
    let rig = Rig::new().await;
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        made.push(named_sandbox(&rig, name).await);
    }
    made.reverse();
    let all = get(&rig, "/sandboxes").await;
    assert_eq!(ids(&all), made);
    assert!(all.get("page").is_none(), "{all}");
    let part = get(&rig, "/sandboxes?limit=1&offset=1").await;
    assert_eq!(ids(&part), made[1..2]);
    assert_eq!(part["page"], json!({ "limit": 1, "offset": 1, "total": 3 }));
    assert_eq!(ids(&get(&rig, "/sandboxes?offset=2").await), made[2..]);
    assert_eq!(ids(&get(&rig, "/sandboxes?offset=3").await), [""; 0]);
    for query in [
        "limit=0",
        "limit=-1",
        "limit=1e3",
        "limit=10001",
        "offset=-1",
        "offset=a",
        "limit=",
    ] {
        let (status, code, _) = answer(rig.request("GET", &format!("/sandboxes?{query}"))).await;
        assert_eq!(
            (status, code.as_str()),
            (422, "VALIDATION_ERROR"),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_come_with_their_sizes() {
    let rig = Rig::new().await;
    let catalogue = get(&rig, "/templates").await;
    let templates = catalogue["templates"].as_array().unwrap();
    assert!(
        templates
            .iter()
            .any(|template| template["id"] == "miosa-sandbox")
    );
    for template in templates {
        assert_eq!(template["product"], "sandbox");
        let sizes = template["sizes"].as_array().unwrap();
        // The caps of the reference: 4 vCPUs, 8 GiB, 10 GiB of disk.
        let names: Vec<_> = sizes
            .iter()
            .map(|size| size["size"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["xs", "small"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_bound_to_a_part_does_nothing_to_the_rest() {
    let rig = Rig::new().await;
    let mine = json!({ "external_user_id": "me", "tags": ["all"] });
    let made = ok(&rig, "POST", "/sandboxes", mine).await;
    let mine = made["id"].clone();
    let other = json!({ "external_user_id": "you", "tags": ["all"] });
    let other = ok(&rig, "POST", "/sandboxes", other).await["id"].clone();
    let scopes = json!(["sandboxes:read", "sandboxes:write"]);
    let workspace = &made["workspace_id"];
    let bound = json!({ "user_id": "me", "workspace_id": workspace, "scopes": scopes });
    let bound = ok(&rig, "POST", "/tokens/scoped", bound).await["data"]["token"].clone();
    let bound = bound.as_str().unwrap();
    let ask = |method: &str, path: &str| {
        let url = format!("{}{path}", rig.url);
        let request = rig.http.request(method.parse().unwrap(), url);
        request.bearer_auth(bound)
    };
    for body in [
        json!({ "ids": [other, mine] }),
        json!({ "filter": { "tags": ["all"] } }),
    ] {
        let (status, _, outcome) = answer(ask("POST", "/bulk/sandboxes/pause").json(&body)).await;
        assert_eq!(
            (status, &outcome["data"]["succeeded"]),
            (200, &json!([mine]))
        );
    }
    let path = format!("/sandboxes/{}", other.as_str().unwrap());
    assert_eq!(get(&rig, &path).await["state"], "running");
    for path in ["/snapshots", "/named-snapshots", "/events/stream"] {
        let (status, code, _) = answer(ask("GET", path)).await;
        assert_eq!((status, code.as_str()), (403, "FORBIDDEN"), "{path}");
    }
}
