//! Keys and tokens: what they may, what they see, how they end.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::Who;
use crate::rig::{PATIENCE, Rig};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_scopes_say() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let id = operator.sandbox(json!({})).await;
    let reader = operator.give(json!({"scopes": ["sandboxes:read"]})).await;
    reader.get("/sandboxes").await.ok(200);
    reader.get("/sandbox-templates").await.ok(200);
    let stat = json!({"path": "/"});
    reader
        .post(&format!("/sandboxes/{id}/files/stat"), stat)
        .await
        .ok(200);
    for (method, path, scope) in [
        ("POST", "/sandboxes".to_owned(), "sandboxes:create"),
        ("POST", format!("/sandboxes/{id}/exec"), "sandboxes:exec"),
        (
            "GET",
            format!("/sandboxes/{id}/terminal/stream"),
            "sandboxes:exec",
        ),
        ("DELETE", format!("/sandboxes/{id}"), "sandboxes:write"),
        ("GET", "/usage".to_owned(), "billing:read"),
        ("GET", "/api-keys".to_owned(), "keys:write"),
        ("POST", "/workspaces".to_owned(), "workspaces:write"),
        ("GET", "/admin/tenants".to_owned(), "admin"),
    ] {
        let refused = super::Reply::to(reader.request(method, &path)).await;
        refused.refused(403, "INSUFFICIENT_SCOPE");
        assert_eq!(
            refused.body["error"]["details"]["scope"], scope,
            "{method} {path}"
        );
    }
    assert_eq!(rig.fleet.running().len(), 1);
    // A ticket and a terminal's token are worth no more than their key.
    let ticket = reader.post("/sse/ticket", json!({})).await.ok(200);
    let url = format!(
        "/sandboxes/{id}/terminal/stream?ticket={}",
        text(&ticket["ticket"])
    );
    let asked = rig.http.get(format!("{}{url}", rig.url));
    super::Reply::to(asked).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_scopes_make_and_use_sandboxes_and_no_more() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let me = operator.get("/whoami").await.ok(200);
    let token = json!({
        "user_id": "ada", "workspace_id": me["data"]["default_workspace_id"],
        "scopes": ["sandboxes:create", "sandboxes:exec"],
    });
    let made = operator.post("/tokens/scoped", token).await.ok(201);
    let ada = operator.with(&made["data"]["token"]);
    let id = ada.sandbox(json!({})).await;
    let path = format!("/sandboxes/{id}");
    ada.get(&format!("{path}/readiness")).await.ok(200);
    let command = json!({"command": "true", "cwd": "/"});
    let exec = format!("{path}/exec");
    ada.post(&exec, command.clone()).await.ok(200);
    for (path, body) in [
        (format!("{path}/pause"), json!({})),
        (format!("{path}/fork"), json!({})),
        ("/sandboxes/run".to_owned(), command.clone()),
    ] {
        let refused = ada.post(&path, body).await;
        refused.refused(403, "INSUFFICIENT_SCOPE");
        let needed = &refused.body["error"]["details"]["scope"];
        assert_eq!(needed, "sandboxes:write", "{path}");
    }
    ada.delete(&path).await.refused(403, "INSUFFICIENT_SCOPE");
    let user = operator.give(json!({"scopes": ["sandboxes:exec"]})).await;
    user.post(&exec, command).await.ok(200);
    user.post("/sandboxes", json!({}))
        .await
        .refused(403, "INSUFFICIENT_SCOPE");
    let maker = operator.give(json!({"scopes": ["sandboxes:create"]})).await;
    maker.get(&path).await.ok(200);
    maker
        .post(&exec, json!({"command": "true"}))
        .await
        .refused(403, "INSUFFICIENT_SCOPE");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_or_takes_over_more_than_they_have() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let own = operator.get("/whoami").await.ok(200);
    let first = text(&own["data"]["api_key_id"]).to_owned();
    let keeper = operator
        .give(json!({"scopes": ["keys:write", "sandboxes:read"]}))
        .await;
    for scopes in [json!(["admin"]), json!(["sandboxes:write"])] {
        let body = json!({ "scopes": scopes });
        keeper
            .post("/api-keys", body)
            .await
            .refused(403, "FORBIDDEN");
    }
    // Without scopes it is what the maker has.
    let made = keeper.post("/api-keys", json!({})).await.ok(201);
    assert_eq!(
        made["data"]["scopes"],
        json!(["sandboxes:read", "keys:write"])
    );
    let path = format!("/api-keys/{first}");
    keeper
        .post(&format!("{path}/rotate"), json!({}))
        .await
        .refused(403, "FORBIDDEN");
    keeper
        .patch(&path, json!({"name": "x"}))
        .await
        .refused(403, "FORBIDDEN");
    keeper.delete(&path).await.refused(403, "FORBIDDEN");
    let mine = format!("/api-keys/{}", text(&made["data"]["id"]));
    let grown = json!({"scopes": ["admin"]});
    keeper.patch(&mine, grown).await.refused(403, "FORBIDDEN");
    operator.get("/whoami").await.ok(200);
    for (body, field) in [
        (json!({"scopes": ["root"]}), "scopes[0]"),
        (json!({"scopes": []}), "scopes"),
        (json!({"expires_in_seconds": 0}), "expires_in_seconds"),
        (
            json!({"expires_in_seconds": i64::MAX}),
            "expires_in_seconds",
        ),
        (json!({"name": "a\nb"}), "name"),
        (json!({"user_id": "nobody"}), "user_id"),
        (
            json!({"user_id": "usr_01j9xr2t4fk8me3n5qv7w8x9y0"}),
            "user_id",
        ),
        (json!({"workspace_id": "x"}), "workspace_id"),
        (json!({"workspace_id": uuid::Uuid::nil()}), "workspace_id"),
    ] {
        let refused = operator.post("/api-keys", body).await;
        refused.refused(422, "VALIDATION_ERROR");
        assert_eq!(refused.body["error"]["details"][0]["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_bound_to_a_workspace_sees_nothing_else() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let outside = operator.sandbox(json!({"name": "outside"})).await;
    let inside = json!({"name": "inside", "workspace_slug": "lab"});
    let inside = operator.post("/sandboxes", inside).await.ok(201);
    let workspace = inside["workspace_id"].clone();
    let bound = operator.give(json!({"workspace_id": workspace})).await;
    let other = json!({"workspace_id": operator.get("/whoami").await.ok(200)["data"]["default_workspace_id"]});

    let listed = bound.get("/sandboxes").await.ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    bound.get("/sandboxes/by-name/inside").await.ok(200);
    bound
        .get("/sandboxes/by-name/outside")
        .await
        .refused(404, "NOT_FOUND");
    bound
        .get(&format!("/sandboxes/{outside}"))
        .await
        .refused(404, "NOT_FOUND");
    bound
        .delete(&format!("/sandboxes/{outside}"))
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(
        bound.get("/workspaces").await.ok(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        bound.get("/projects").await.ok(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        bound.get("/api-keys").await.ok(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let made = bound.post("/sandboxes", json!({})).await.ok(201);
    assert_eq!(made["workspace_id"], workspace);
    bound
        .post("/sandboxes", other.clone())
        .await
        .refused(422, "VALIDATION_ERROR");
    for slug in ["default", "new"] {
        let body = json!({"workspace_slug": slug});
        bound
            .post("/sandboxes", body)
            .await
            .refused(422, "VALIDATION_ERROR");
    }
    bound
        .post("/workspaces", json!({"name": "x"}))
        .await
        .refused(403, "FORBIDDEN");
    bound
        .post("/api-keys", other)
        .await
        .refused(422, "VALIDATION_ERROR");
    bound.get("/credits").await.refused(403, "FORBIDDEN");
    // Usage is counted at the end.
    bound
        .delete(&format!("/sandboxes/{}", text(&made["id"])))
        .await
        .ok(200);
    operator
        .delete(&format!("/sandboxes/{outside}"))
        .await
        .ok(200);
    let usage = bound.get("/usage/summary").await.ok(200);
    assert_eq!(usage["data"]["sandbox_count"], 1, "{usage}");
    // What it makes is bound like itself.
    let child = bound.give(json!({})).await;
    let me = child.get("/whoami").await.ok(200);
    assert_eq!(me["data"]["workspace_id"], workspace);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_one_end_users() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let me = operator.get("/whoami").await.ok(200);
    let workspace = me["data"]["default_workspace_id"].clone();
    let token = |user: &str| json!({"user_id": user, "workspace_id": workspace});
    let made = operator.post("/tokens/scoped", token("ada")).await.ok(201);
    assert_eq!(
        made["data"]["scopes"],
        json!([
            "sandboxes:read",
            "sandboxes:create",
            "sandboxes:exec",
            "sandboxes:write",
            "billing:read"
        ])
    );
    assert!(text(&made["data"]["token"]).starts_with(text(&made["data"]["prefix"])));
    let ada = operator.with(&made["data"]["token"]);
    let eve = operator.post("/tokens/scoped", token("eve")).await.ok(201);
    let eve = operator.with(&eve["data"]["token"]);

    let own = ada.post("/sandboxes", json!({"name": "box"})).await.ok(201);
    assert_eq!(own["external_user_id"], "ada");
    let path = format!("/sandboxes/{}", text(&own["id"]));
    ada.get(&path).await.ok(200);
    eve.get(&path).await.refused(404, "NOT_FOUND");
    eve.get("/sandboxes/by-name/box")
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(eve.get("/sandboxes").await.ok(200)["data"], json!([]));
    let hers = json!({"external_user_id": "ada"});
    eve.post("/sandboxes", hers)
        .await
        .refused(422, "VALIDATION_ERROR");
    let fork = format!("{path}/fork");
    let copy = ada.post(&fork, json!({})).await.ok(201);
    assert_eq!(copy["external_user_id"], "ada");
    assert_eq!(
        eve.get("/usage/summary").await.ok(200)["data"]["sandbox_count"],
        0
    );
    let asked = eve.get("/usage/summary?external_user_id=ada").await;
    asked.refused(422, "VALIDATION_ERROR");
    eve.get("/api-keys")
        .await
        .refused(403, "INSUFFICIENT_SCOPE");

    let listed = operator.get("/tokens/scoped").await.ok(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let keys = operator.get("/api-keys").await.ok(200);
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);
    let id = text(&made["data"]["id"]);
    operator
        .delete(&format!("/api-keys/{id}"))
        .await
        .refused(404, "NOT_FOUND");
    operator
        .delete(&format!("/tokens/scoped/{id}"))
        .await
        .ok(204);
    ada.get("/whoami").await.refused(401, "UNAUTHORIZED");
    for (change, field) in [
        (json!({"user_id": ""}), "user_id"),
        (json!({"workspace_id": "x"}), "workspace_id"),
        (json!({"scopes": ["keys:write"]}), "scopes"),
        (json!({"expires_in_seconds": 86_401}), "expires_in_seconds"),
    ] {
        let mut body = token("ada");
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let refused = operator.post("/tokens/scoped", body).await;
        refused.refused(422, "VALIDATION_ERROR");
        assert_eq!(refused.body["error"]["details"][0]["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_has_a_new_secret_and_the_old_one_as_long_as_asked() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let made = operator
        .post("/api-keys", json!({"name": "ci"}))
        .await
        .ok(201);
    let old = operator.with(&made["data"]["key"]);
    let path = format!("/api-keys/{}", text(&made["data"]["id"]));
    let rotate = format!("{path}/rotate");
    let rotated = operator
        .post(&rotate, json!({"overlap_seconds": 3600}))
        .await
        .ok(200);
    let new = operator.with(&rotated["data"]["key"]);
    assert_eq!(rotated["data"]["id"], made["data"]["id"]);
    assert_ne!(rotated["data"]["prefix"], made["data"]["prefix"]);
    assert!(rotated["data"]["previous_until"].is_string());
    old.get("/whoami").await.ok(200);
    new.get("/whoami").await.ok(200);
    // A key may replace its own secret; without an overlap the old one is over.
    let again = new.post(&rotate, json!({})).await.ok(200);
    let newest = operator.with(&again["data"]["key"]);
    old.get("/whoami").await.refused(401, "UNAUTHORIZED");
    new.get("/whoami").await.refused(401, "UNAUTHORIZED");
    newest.get("/whoami").await.ok(200);
    let shown = operator.get(&path).await.ok(200);
    assert_eq!(shown["data"]["previous_until"], Value::Null);
    assert_eq!(shown["data"].get("key"), None);

    for overlap in [-1, 7 * 24 * 3600 + 1] {
        let body = json!({"overlap_seconds": overlap});
        operator
            .post(&rotate, body)
            .await
            .refused(422, "VALIDATION_ERROR");
    }
    let renamed = operator.patch(&path, json!({"name": "deploy", "expires_in_seconds": 60}));
    let renamed = renamed.await.ok(200);
    assert!(renamed["data"]["expires_at"].is_string(), "{renamed}");
    let forever = operator
        .patch(&path, json!({"expires_in_seconds": null}))
        .await
        .ok(200);
    assert_eq!(forever["data"]["expires_at"], Value::Null);
    assert_eq!(forever["data"]["name"], "deploy");
    operator.delete(&path).await.ok(204);
    newest.get("/whoami").await.refused(401, "UNAUTHORIZED");
    operator
        .post(&rotate, json!({}))
        .await
        .refused(409, "RESOURCE_STATE");
    operator
        .patch(&path, json!({}))
        .await
        .refused(409, "RESOURCE_STATE");
}

/// Reads a stream to its end.
async fn over(response: reqwest::Response) {
    let mut bytes = response.bytes_stream();
    let end = async { while let Some(Ok(_)) = bytes.next().await {} };
    timeout(PATIENCE, end).await.expect("the stream goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_their_key() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let id = operator.sandbox(json!({})).await;
    let events = format!("/sandboxes/{id}/events");
    let made = operator.post("/api-keys", json!({})).await.ok(201);
    let key = operator.with(&made["data"]["key"]);
    let path = format!("/api-keys/{}", text(&made["data"]["id"]));

    // Replaced.
    let stream = key.request("GET", &events).send().await.unwrap();
    let rotated = operator
        .post(&format!("{path}/rotate"), json!({}))
        .await
        .ok(200);
    over(stream).await;
    // Less than it was.
    let key = operator.with(&rotated["data"]["key"]);
    let stream = key.request("GET", &events).send().await.unwrap();
    operator
        .patch(&path, json!({"scopes": ["billing:read"]}))
        .await
        .ok(200);
    over(stream).await;
    // Expired, while a command runs in its stream.
    let short = operator.give(json!({"expires_in_seconds": 1})).await;
    let long = json!({"command": "sleep 100"});
    let asked = short.request("POST", &format!("/sandboxes/{id}/exec/stream"));
    let stream = asked.json(&long).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    over(stream).await;
    // Revoked; other keys' streams go on.
    let key = operator.give(json!({"name": "last"})).await;
    let me = key.get("/whoami").await.ok(200);
    let stream = key.request("GET", &events).send().await.unwrap();
    let stays = operator.request("GET", &events).send().await.unwrap();
    let last = format!("/api-keys/{}", text(&me["data"]["api_key_id"]));
    operator.delete(&last).await.ok(204);
    over(stream).await;
    sleep(Duration::from_millis(50)).await;
    let going = timeout(Duration::from_millis(50), over(stays)).await;
    assert!(going.is_err(), "the operator's stream ended too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_ends_with_the_key_that_opened_it() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let id = operator.sandbox(json!({})).await;
    let made = operator.post("/api-keys", json!({})).await.ok(201);
    let key = operator.with(&made["data"]["key"]);
    let body = json!({"shell": "/bin/sh", "cwd": "/"});
    let opened = key
        .post(&format!("/sandboxes/{id}/terminal"), body)
        .await
        .ok(201);
    let field = |name: &str| text(&opened[name]).to_owned();
    let url = format!("{}?token={}", field("ws_url"), field("stream_auth"));
    let (mut socket, _) = connect_async(&url).await.unwrap();
    operator
        .delete(&format!("/api-keys/{}", text(&made["data"]["id"])))
        .await
        .ok(204);
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(frame) = message {
                return frame.unwrap();
            }
        }
        panic!("it broke off")
    };
    let frame = timeout(PATIENCE, closed).await.unwrap();
    assert_eq!(u16::from(frame.code), 1008, "{frame}");
    // Its token is worth nothing any longer.
    assert!(connect_async(&url).await.is_err());
}
