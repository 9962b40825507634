//! A sandbox from its create to its end.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::rig::Rig;
use crate::rig::sandbox::Sandbox;

/// How far a guest's clock may be off, in seconds: a restore and a call lie
/// between the two readings.
const CLOCK_TOLERANCE_SEC: u64 = 5;

pub(crate) fn defaults(rig: &Rig) {
    let api = rig.api();
    let whoami = api.get("/whoami").ok(200);
    let sandbox = Sandbox::with(&api, &json!({}));
    let record = sandbox.get();
    let fixed = json!({
        "id": sandbox.id,
        "tenant_id": whoami["data"]["tenant_id"],
        "owner_id": whoami["data"]["user_id"],
        "external_workspace_id": null,
        "external_user_id": null,
        "external_project_id": null,
        "name": null,
        "tags": [],
        "template_id": "miosa-sandbox",
        "image_id": "miosa-sandbox",
        "state": "running",
        "ready": true,
        "size": null,
        "cpu_count": 1,
        "memory_mb": 1024,
        "disk_size_mb": 3072,
        "boot_path": "snapshot",
        "timeout_sec": 300,
        "idle_timeout_sec": null,
        "always_on": false,
        "persistent": false,
        "auto_start": false,
        "total_runtime_sec": null,
        "metadata": {},
        "error_message": null,
        "destroyed_at": null,
    });
    for (field, value) in fixed.as_object().unwrap() {
        assert_eq!(&record[field], value, "{field} of {record}");
    }
    assert!(sandbox.id.starts_with("sbx_"), "{record}");
    assert!(record["boot_ms"].as_u64().unwrap() > 0, "{record}");
    let left = record["timeout_remaining_ms"].as_i64().unwrap();
    assert!((1..=300_000).contains(&left), "{record}");
    for field in ["workspace_id", "project_id"] {
        assert_eq!(record[field].as_str().unwrap().len(), 36, "{record}");
    }
    let slug = record["slug"].as_str().unwrap();
    let preview = format!("http://{slug}.sandbox.localhost:");
    assert!(
        record["preview_url"]
            .as_str()
            .unwrap()
            .starts_with(&preview),
        "{record}"
    );
    let times = ["created_at", "started_at", "ready_at"].map(|field| {
        let time = record[field].as_str().unwrap();
        // What Python 3.10 can read: three or six digits (client-contract.md).
        let fraction = time.strip_suffix('Z').unwrap().split_once('.').unwrap().1;
        assert!(matches!(fraction.len(), 3 | 6), "{time}");
        time
    });
    assert!(times.is_sorted(), "{times:?}");
    let others = [
        "id",
        "tenant_id",
        "owner_id",
        "workspace_id",
        "project_id",
        "slug",
        "preview_url",
        "boot_ms",
        "timeout_remaining_ms",
        "created_at",
        "started_at",
        "ready_at",
    ];
    for field in record.as_object().unwrap().keys() {
        let known = fixed.get(field).is_some() || others.contains(&field.as_str());
        assert!(known, "{field} of {record}");
    }

    // The create's own answer is the same but for the time that has passed.
    let mut created = sandbox.record.clone();
    created["timeout_remaining_ms"] = record["timeout_remaining_ms"].clone();
    assert_eq!(created, record);
}

pub(crate) fn lists(rig: &Rig) {
    let api = rig.api();
    let body = json!({
        "timeout_sec": 3600,
        "name": "lists",
        "tags": ["blue", "round"],
        "external_workspace_id": "customer 7",
        "external_user_id": "user-7",
        "external_project_id": "project/7",
        "metadata": { "any": ["thing", 1, null] },
    });
    let one = Sandbox::with(&api, &body);
    let other = Sandbox::new(&api);
    for field in ["name", "tags", "metadata", "external_project_id"] {
        assert_eq!(one.record[field], body[field]);
    }
    let ids = |query: &str| -> Vec<String> {
        let list = api.get(&format!("/sandboxes{query}")).ok(200);
        let list = list["data"].as_array().unwrap();
        list.iter()
            .map(|sandbox| sandbox["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let both = ids("");
    assert!(
        both.contains(&one.id) && both.contains(&other.id),
        "{both:?}"
    );
    for query in [
        "?external_workspace_id=customer%207",
        "?external_user_id=user-7",
        "?external_project_id=project%2F7",
        "?tags=blue",
        "?tags=round%2Cblue",
        "?state=running&tags=blue&external_user_id=user-7",
    ] {
        assert_eq!(ids(query), [one.id.as_str()], "{query}");
    }
    for query in [
        "?external_user_id=user-8",
        "?tags=blue,square",
        "?state=paused",
        "?state=creating&tags=blue",
        "?workspace_id=00000000-0000-0000-0000-000000000000",
    ] {
        assert_eq!(ids(query), Vec::<String>::new(), "{query}");
    }
    let project = one.record["project_id"].as_str().unwrap();
    assert!(ids(&format!("?project_id={project}")).contains(&other.id));
    api.get("/sandboxes?state=nonsense").names("state");
    api.get("/sandboxes?workspace_id=7").names("workspace_id");
}

pub(crate) fn by_name(rig: &Rig) {
    let api = rig.api();
    let body = json!({ "timeout_sec": 3600, "name": "team/one two" });
    let path = "/sandboxes/by-name/team%2Fone%20two";
    api.get(path).refused(404, "NOT_FOUND");
    let older = Sandbox::with(&api, &body);
    assert_eq!(api.get(path).ok(200)["id"], older.id);
    let newer = Sandbox::with(&api, &body);
    assert_eq!(api.get(path).ok(200)["id"], newer.id);
    newer.destroy();
    assert_eq!(api.get(path).ok(200)["id"], older.id);
    older.destroy();
    api.get(path).refused(404, "NOT_FOUND");
}

pub(crate) fn readiness(rig: &Rig) {
    let api = rig.api();
    let record = api.post("/sandboxes?wait=0", &json!({})).ok(201);
    let sandbox = Sandbox::known(&api, record);
    assert_eq!(sandbox.record["state"], "provisioning");
    assert_eq!(sandbox.record["ready"], false);
    // Ends when it has become ready, and again at once when it is.
    for _ in 0..2 {
        let stream = api.get(&sandbox.at("/readiness/stream"));
        assert_eq!(stream.status, 200);
        assert_eq!(stream.content_type.as_deref(), Some("text/event-stream"));
        let text = stream.text();
        assert!(
            text.contains("event: ready\n") && text.contains("\"ready_at\":\"2"),
            "{text}"
        );
        let answer = api.get(&sandbox.at("/readiness")).ok(200);
        let data = &answer["data"];
        assert_eq!(data["sandbox_id"], sandbox.id);
        assert_eq!(
            (&data["ready"], &data["status"]),
            (&json!(true), &json!("ready"))
        );
        let components = data["readiness"]["components"].as_object().unwrap();
        assert_eq!(components.len(), 8, "{answer}");
        assert!(
            components
                .values()
                .all(|component| component["status"] == "ready")
        );
    }
    let at = sandbox.at("");
    sandbox.destroy();
    let text = api.get(&format!("{at}/readiness/stream")).text();
    assert!(
        text.contains("event: timeout\n") && text.contains("destroyed"),
        "{text}"
    );
    assert_eq!(
        api.get(&format!("{at}/readiness")).ok(200)["data"]["ready"],
        false
    );
}

pub(crate) fn idempotency(rig: &Rig) {
    let api = rig.api();
    let body = json!({ "timeout_sec": 3600, "name": "idempotent" });
    let create = |key: &str| {
        let headers = [("idempotency-key", key)];
        let answer = api.try_post("/sandboxes?wait=true", &body, &headers);
        answer.unwrap().ok(201)
    };
    let records: Vec<Value> = thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| create("one key"))).collect();
        all.into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let sandbox = Sandbox::known(&api, create("one key"));
    for record in &records {
        assert_eq!(record["id"], sandbox.id);
        assert_eq!(record["state"], "running");
    }
    assert_eq!(api.live(), [sandbox.id.as_str()]);
    let other = Sandbox::known(&api, create("another key"));
    assert_ne!(other.id, sandbox.id);
}

pub(crate) fn two_differ(rig: &Rig) {
    let api = rig.api();
    let (first, second) = (Sandbox::new(&api), Sandbox::new(&api));
    for command in [
        "hostname",
        "cat /etc/machine-id",
        "od -An -N16 -tx1 /dev/urandom",
        "cat /proc/sys/kernel/random/uuid",
        "python3 -c 'import random, uuid; print(random.random(), uuid.uuid4())'",
    ] {
        let (a, b) = (first.say(command), second.say(command));
        assert!(!a.is_empty() && a != b, "{command}: {a} and {b}");
    }
    for sandbox in [&first, &second] {
        assert_eq!(sandbox.record["boot_path"], "snapshot");
        assert_eq!(sandbox.say("hostname"), sandbox.id.replace('_', "-"));
        let theirs: u64 = sandbox.say("date +%s").parse().unwrap();
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(
            theirs.abs_diff(ours.as_secs()) <= CLOCK_TOLERANCE_SEC,
            "{theirs}"
        );
    }
    // Neither sees what the other writes.
    first.upload("/workspace/mine", b"1");
    second.lacks("/workspace/mine");
}

pub(crate) fn destroy_twice(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let id = sandbox.id.clone();
    let first = sandbox.destroy();
    assert!(first["total_runtime_sec"].as_i64().unwrap() >= 1, "{first}");
    let path = format!("/sandboxes/{id}");
    let again: Vec<Value> = thread::scope(|scope| {
        let all: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| api.delete(&path).ok(200)))
            .collect();
        all.into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(again.iter().all(|answer| *answer == first), "{again:?}");
    let record = api.get(&path).ok(200);
    assert_eq!(
        (&record["state"], &record["ready"]),
        (&json!("destroyed"), &json!(false))
    );
    assert!(record["destroyed_at"].is_string(), "{record}");
    assert!(!api.live().contains(&id));
}
