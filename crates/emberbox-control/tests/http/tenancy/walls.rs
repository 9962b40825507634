//! The wall between tenants: every operation of the published document is
//! called with another tenant's key and this tenant's identifiers.
//!
//! Nothing here lists routes. An operation whose path, query or body this test
//! cannot fill fails it: say in [`Owned`] what the new identifier names.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Who;
use crate::rig::{Rig, eventually};

/// In what the owner's names are made of, where they are part of a path.
const MARK: &str = "owners-own-7f3a";

/// In everything else that the owner said.
const WORD: &str = "words-of-the-owner-91bd";

/// How long a stream that was let in may take to say something.
const LISTEN: Duration = Duration::from_millis(300);

/// Identifiers in a path that name something of a sandbox, and are worth trying
/// in a sandbox of one's own.
const OF_SANDBOX: [&str; 5] = ["snapshot", "preview", "share", "session_id", "pid"];

/// Operations that answer before they look, and fail afterwards.
const LATER: [&str; 1] = ["/sandboxes/batch"];

/// Operations that answer for each thing they were asked for.
const EACH: [&str; 4] = [
    "/bulk/sandboxes/pause",
    "/bulk/sandboxes/resume",
    "/bulk/sandboxes/destroy",
    "/snapshots/delete",
];

/// Fields that end in `_id` and name nothing of this server's.
const NO_IDS: [&str; 3] = [
    "external_workspace_id",
    "external_user_id",
    "external_project_id",
];

/// What does not stay the same when nobody does anything.
const VOLATILE: [&str; 4] = [
    "timeout_remaining_ms",
    "request_id",
    "period_start",
    "period_end",
];

/// Operations that tell of time that goes by, or of the whole server.
const MOVING: [&str; 5] = ["/usage", "/metrics", "/health", "/ready", "/openapi.json"];

struct Operation {
    method: String,
    path: String,
    /// Whether its answer is a stream of events, or a WebSocket.
    streams: bool,
    queries: Vec<String>,
    /// Every field its JSON body may have.
    fields: Vec<String>,
    required: Vec<String>,
}

impl Operation {
    fn all() -> Vec<Self> {
        let document = serde_json::to_value(emberbox_control::openapi()).unwrap();
        let mut all = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                all.push(Self::read(&document, method, path, operation));
            }
        }
        all
    }

    fn read(document: &Value, method: &str, path: &str, operation: &Value) -> Self {
        let responses = operation["responses"].as_object().unwrap();
        let streams = responses.iter().any(|(status, response)| {
            status == "101" || response["content"].get("text/event-stream").is_some()
        });
        let parameters = operation["parameters"].as_array().cloned();
        let queries = parameters.unwrap_or_default().into_iter();
        let queries = queries.filter(|parameter| parameter["in"] == "query");
        let mut body = (Vec::new(), Vec::new());
        if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
            collect(document, schema, &mut body);
        }
        Self {
            method: method.to_uppercase(),
            path: path.to_owned(),
            streams,
            queries: queries
                .map(|query| query["name"].as_str().unwrap().to_owned())
                .collect(),
            fields: body.0,
            required: body.1,
        }
    }

    /// The names in braces.
    fn parameters(&self) -> impl Iterator<Item = &str> {
        let segments = self.path.split('/');
        segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    fn has(&self, field: &str) -> bool {
        self.fields.iter().any(|name| name == field)
    }

    fn moves(&self) -> bool {
        MOVING
            .iter()
            .any(|moving| self.path.starts_with(moving) || self.path.ends_with(moving))
    }
}

/// Adds the fields of a schema, its parts' included.
fn collect(document: &Value, schema: &Value, body: &mut (Vec<String>, Vec<String>)) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).unwrap();
        return collect(document, schema, body);
    }
    for part in ["allOf", "oneOf", "anyOf"] {
        for schema in schema[part].as_array().into_iter().flatten() {
            collect(document, schema, body);
        }
    }
    let properties = schema["properties"].as_object();
    body.0.extend(
        properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone()),
    );
    for name in schema["required"].as_array().into_iter().flatten() {
        body.1.push(name.as_str().unwrap().to_owned());
    }
}

/// What the owner has: something of every kind.
struct Owned {
    /// By the beginning of a path and the name of its parameter; the longest
    /// beginning counts.
    named: Vec<(&'static str, &'static str, String)>,
    /// By the name of a field or of a parameter of a query.
    fields: BTreeMap<&'static str, String>,
    /// What no answer to anybody else may contain.
    secrets: Vec<String>,
}

impl Owned {
    async fn by(who: &Who<'_>) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let place = |name: &str| json!({ "name": format!("{WORD} {name}") });
        let workspace = who.post("/workspaces", place("workspace")).await.ok(201);
        let workspace = text(&workspace["data"]["id"]);
        let mut project = place("project");
        project["workspace_id"] = json!(workspace);
        let project = text(&who.post("/projects", project).await.ok(201)["data"]["id"]);
        let name = format!("{MARK}-box");
        let body = json!({
            "name": name, "project_id": project, "tags": [WORD], "env": {"WORD": WORD},
            "metadata": {"word": WORD}, "external_user_id": WORD, "timeout_sec": 3600,
        });
        let made = who.post("/sandboxes", body).await.ok(201);
        let (sandbox, slug) = (text(&made["id"]), text(&made["slug"]));
        let of = |rest: &str| format!("/sandboxes/{sandbox}{rest}");

        let directory = who.rig.path(MARK);
        let file = format!("{directory}/{MARK}.txt");
        let upload = json!({"path": file, "content": STANDARD.encode(WORD)});
        who.post(&of("/files"), upload).await.ok(200);
        let process = json!({"command": "sleep 1000", "name": WORD, "cwd": "/"});
        let process = who.post(&of("/processes"), process).await.ok(201);
        let pid = process["data"]["pid"].to_string();
        let code = json!({"code": "1", "context": MARK});
        who.post(&of("/code/run"), code).await.ok(200);
        let terminal = json!({"shell": "/bin/sh", "cwd": "/"});
        let terminal = who.post(&of("/terminal"), terminal).await.ok(201);
        let comment = json!({ "comment": WORD });
        let snapshot = who.post(&of("/snapshots"), comment).await.ok(201);
        let snapshot = text(&snapshot["data"]["id"]);
        let kept = format!("{MARK}-kept");
        let naming = json!({ "name": kept, "sandbox_id": sandbox });
        let named = who.post("/named-snapshots", naming).await.ok(201);
        let named = text(&named["data"]["snapshot_id"]);
        let preview = json!({"port": 3000, "name": WORD, "visibility": "private"});
        let preview = text(&who.post(&of("/previews"), preview).await.ok(201)["data"]["id"]);
        let share = who.post(&of("/shares"), json!({})).await.ok(201);
        let share_id = text(&share["data"]["share_id"]);
        let deployment = json!({"name": format!("{WORD} app"), "port": 3000});
        let deployment = who.post(&of("/deploy"), deployment).await.ok(201);
        let deployment = text(&deployment["deployment_id"]);
        let batch = json!({"count": 1, "tags": [WORD], "workspace_id": workspace});
        let batch = text(&who.post("/sandboxes/batch", batch).await.ok(202)["data"]["id"]);
        let settled = || async {
            let batch = who
                .get(&format!("/sandboxes/batches/{batch}"))
                .await
                .ok(200);
            !batch["data"]["settled_at"].is_null()
        };
        eventually("the batch is settled", settled).await;
        let template = json!({"name": WORD, "build_spec": crate::templates::spec()});
        let template = who.post("/sandbox-templates", template).await.ok(201);
        let template = text(&template["data"]["id"]);
        let build = format!("/sandbox-templates/{template}/builds");
        let build = text(&who.post(&build, json!({})).await.ok(201)["data"]["id"]);
        // One that is over changes no more, however it ended.
        let build_path = format!("/sandbox-template-builds/{build}");
        who.post(&format!("{build_path}/cancel"), json!({})).await;
        let over = || async {
            let build = who.get(&build_path).await.ok(200);
            !build["data"]["finished_at"].is_null()
        };
        eventually("the build is over", over).await;
        let key = who.post("/api-keys", json!({ "name": WORD })).await.ok(201);
        let token = json!({"user_id": WORD, "workspace_id": workspace});
        let token = who.post("/tokens/scoped", token).await.ok(201);
        let me = who.get("/whoami").await.ok(200);
        let (tenant, user) = (text(&me["data"]["tenant_id"]), text(&me["data"]["user_id"]));
        let (key_id, token_id) = (text(&key["data"]["id"]), text(&token["data"]["id"]));
        let session = text(&terminal["session_id"]);

        let secrets = [
            MARK,
            WORD,
            &workspace,
            &project,
            &sandbox,
            &slug,
            &snapshot,
            &named,
            &preview,
            &share_id,
            &deployment,
            &batch,
            &key_id,
            &template,
            &build,
            &token_id,
            &tenant,
            &user,
            &session,
            terminal["stream_auth"].as_str().unwrap(),
        ];
        let secrets = secrets.map(str::to_owned).to_vec();
        let named = [
            ("/sandboxes", "id", &sandbox),
            ("/sandboxes/batches", "id", &batch),
            ("/sandboxes/by-name", "name", &name),
            ("/sandboxes", "snapshot", &snapshot),
            ("/sandboxes", "preview", &preview),
            ("/sandboxes", "share", &share_id),
            ("/sandboxes", "pid", &pid),
            ("/sandboxes", "session_id", &session),
            ("/sandboxes", "context", &MARK.to_owned()),
            ("/sandboxes", "key", &"WORD".to_owned()),
            (
                "/sandboxes",
                "path",
                &file.trim_start_matches('/').to_owned(),
            ),
            ("/snapshots", "id", &snapshot),
            ("/named-snapshots", "name", &kept),
            ("/deployments", "id", &deployment),
            ("/api-keys", "id", &key_id),
            ("/tokens/scoped", "id", &token_id),
            ("/workspaces", "id", &workspace),
            ("/projects", "id", &project),
            ("/admin/tenants", "id", &tenant),
            ("/admin/tenants", "user_id", &user),
            ("/sandbox-templates", "id", &template),
            ("/admin/sandbox-templates", "id", &template),
            ("/sandbox-template-builds", "id", &build),
        ];
        let fields = [
            ("workspace_id", workspace.clone()),
            ("project_id", project.clone()),
            ("sandbox_id", sandbox.clone()),
            ("resource_id", sandbox.clone()),
            ("snapshot_id", snapshot.clone()),
            ("deployment_id", deployment.clone()),
            ("session_id", session.clone()),
            ("user_id", user.clone()),
            ("template_id", template.clone()),
            // Of a file or a directory, whatever is asked for.
            ("path", directory),
        ];
        Self {
            named: named
                .iter()
                .map(|(start, name, value)| (*start, *name, (*value).clone()))
                .collect(),
            fields: fields.into_iter().collect(),
            secrets,
        }
    }

    /// What stands for a parameter of a path.
    #[track_caller]
    fn parameter(&self, path: &str, name: &str) -> &str {
        let fits = |(start, known, _): &&(&str, &str, String)| {
            path.starts_with(&format!("{start}/")) && *known == name
        };
        let longest = self
            .named
            .iter()
            .filter(fits)
            .max_by_key(|(start, ..)| start.len());
        let (.., value) = longest.unwrap_or_else(|| {
            panic!("{path}: nothing of the owner's stands for {{{name}}}; add it to Owned")
        });
        value
    }

    /// The path of an operation with the owner's identifiers, `id` but where
    /// another one is given, and a query with them.
    fn target(&self, operation: &Operation, own_sandbox: Option<&str>) -> String {
        let mut path = operation.path.clone();
        for name in operation.parameters() {
            let value = match own_sandbox {
                Some(own) if name == "id" => own,
                Some(_) | None => self.parameter(&operation.path, name),
            };
            path = path.replace(&format!("{{{name}}}"), value);
        }
        let ids = operation.queries.iter().filter_map(|name| {
            let value = self.fields.get(name.as_str());
            let unknown = value.is_none() && names_something(name);
            assert!(!unknown, "{}: what is the query's {name}?", operation.path);
            Some(format!("{name}={}", value?))
        });
        let query: Vec<_> = ids.collect();
        if query.is_empty() {
            path
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }

    /// Bodies for an operation: one with none of the owner's identifiers, and
    /// one with each that it takes, so that none hides behind another.
    fn bodies(&self, operation: &Operation) -> Vec<(Option<String>, Value)> {
        let mut plain = Map::new();
        for name in &operation.fields {
            if let Some(value) = sample(&operation.path, name) {
                plain.insert(name.clone(), value);
            } else if operation.required.contains(name) && !self.fields.contains_key(name.as_str())
            {
                panic!(
                    "{} {}: no sample for {name}",
                    operation.method, operation.path
                );
            }
        }
        let mut bodies = vec![(None, Value::Object(plain.clone()))];
        for name in &operation.fields {
            if !names_something(name) {
                continue;
            }
            let mut body = plain.clone();
            let value = self.fields.get(name.as_str());
            let value = match (name.as_str(), value) {
                // Of whichever the operation is about.
                ("ids", _) => json!([self.fields["sandbox_id"], self.fields["snapshot_id"]]),
                (_, Some(value)) if name.ends_with('s') => json!([value]),
                (_, Some(value)) => json!(value),
                (_, None) => panic!("{} {}: what is {name}?", operation.method, operation.path),
            };
            if operation.has("confirm") && name != "ids" {
                body.insert("all".to_owned(), json!(true));
                body.insert("confirm".to_owned(), value.clone());
            }
            body.insert(name.clone(), value);
            bodies.push((Some(name.clone()), Value::Object(body)));
        }
        if operation.has("filter") {
            let filter = json!({ "workspace_id": self.fields["workspace_id"] });
            let body = json!({ "filter": filter });
            bodies.push((Some("filter".to_owned()), body));
        }
        bodies
    }
}

/// Whether a field's name says that it names something of this server's.
fn names_something(field: &str) -> bool {
    let is_id = field.ends_with("_id") || field.ends_with("_ids") || field == "ids";
    is_id && !NO_IDS.contains(&field)
}

/// A value that most routes take for a field of this name.
fn sample(path: &str, field: &str) -> Option<Value> {
    Some(match field {
        // Any text of its maker's.
        "user_id" if path == "/tokens/scoped" => json!("strangers-own"),
        "command" => json!("true"),
        "code" => json!("1"),
        "name" | "label" => json!("strangers-own"),
        "path" | "filename" => json!("/tmp/strangers-own"),
        "content" => json!("eA=="),
        "port" => json!(8080),
        "signal" => json!("TERM"),
        "files" => json!([{"path": "/tmp/strangers-own", "content_base64": "eA=="}]),
        "tags" => json!(["strangers-own"]),
        "count" => json!(1),
        "amount_micro" => json!(1),
        "domain" => json!("strangers-own.example.com"),
        "build_spec" => crate::templates::spec(),
        "env" => json!({"STRANGER": "1"}),
        "vars" => json!([{"key": "STRANGER", "value": "1"}]),
        _ => return None,
    })
}

/// Somebody else, with something of their own.
struct Stranger<'a> {
    who: Who<'a>,
    owned: &'a Owned,
}

impl Stranger<'_> {
    /// Calls an operation; its status, once its answer is known to hold nothing
    /// of the owner's.
    async fn call(&self, operation: &Operation, target: &str, body: Option<&Value>) -> u16 {
        let mut request = self.who.request(&operation.method, target);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let mut seen = format!("{:?}", response.headers());
        let mut chunks = response.bytes_stream();
        let whole = async {
            while let Some(Ok(chunk)) = chunks.next().await {
                seen.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        if operation.streams {
            // One that is let in need not end.
            let _still_open = timeout(LISTEN, whole).await;
        } else {
            whole.await;
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let called = format!("{} {target} {body}", operation.method);
        // What was asked for may be repeated: that tells nothing.
        let told = |secret: &&String| !called.contains(secret.as_str());
        for secret in self.owned.secrets.iter().filter(told) {
            assert!(
                !seen.contains(secret.as_str()),
                "{called} tells {secret}: {seen}"
            );
        }
        assert!(status < 500, "{called}: {status} {seen}");
        assert!(
            !seen.contains(r#"{"error":{"code":"ROUTE_NOT_FOUND""#),
            "{called}: {seen}"
        );
        status
    }

    /// The refusal of what is not there for a stranger.
    async fn is_refused(&self, operation: &Operation, target: &str, body: &Value) {
        let takes_body = operation.method != "GET";
        let status = self
            .call(operation, target, takes_body.then_some(body))
            .await;
        let expected: &[u16] = match operation.path.as_str() {
            path if path.starts_with("/admin/") => &[403],
            _ => &[404],
        };
        let called = format!("{} {target}", operation.method);
        assert!(expected.contains(&status), "{called} {body}: {status}");
    }
}

/// Everything the owner can read, by what was asked for.
async fn view(owner: &Who<'_>, owned: &Owned, operations: &[Operation]) -> BTreeMap<String, Value> {
    let mut seen = BTreeMap::new();
    for operation in operations {
        if operation.method != "GET" || operation.streams || operation.moves() {
            continue;
        }
        let target = owned.target(operation, None);
        let response = owner.request("GET", &target).send().await.unwrap();
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        // Otherwise its refusal to a stranger would say nothing.
        assert!(status.is_success(), "the owner is refused {target}: {text}");
        let body = serde_json::from_slice(&bytes);
        let mut body = body.unwrap_or_else(|_| json!(text));
        settle(&mut body);
        seen.insert(target, body);
    }
    seen
}

/// Takes out what moves by itself.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !VOLATILE.contains(&name.as_str()));
            fields.values_mut().for_each(settle);
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_shows_or_changes_what_is_another_tenants() {
    let rig = Rig::new().await;
    let owner = Who::operator(&rig);
    let owned = Owned::by(&owner).await;
    let operations = Operation::all();
    let who = Who::of_another_tenant(&rig, "stranger").await;
    let own = who.sandbox(json!({})).await;
    let before = view(&owner, &owned, &operations).await;
    let stranger = Stranger { who, owned: &owned };
    for operation in &operations {
        let parameters: Vec<_> = operation.parameters().collect();
        let target = owned.target(operation, None);
        let bodies = owned.bodies(operation);
        if !parameters.is_empty() {
            let (_, plain) = &bodies[0];
            stranger.is_refused(operation, &target, plain).await;
        }
        let in_sandbox = operation.path.starts_with("/sandboxes/{id}/");
        // What is the owner's is not there in a sandbox of one's own either.
        if in_sandbox && parameters.iter().any(|name| OF_SANDBOX.contains(name)) {
            let target = owned.target(operation, Some(&own));
            let (_, plain) = &bodies[0];
            stranger.is_refused(operation, &target, plain).await;
        }
        let open = parameters.is_empty();
        let target = match (open, in_sandbox) {
            (true, _) => target,
            (false, true) => owned.target(operation, Some(&own)),
            (false, false) => continue,
        };
        for (named, body) in &bodies {
            let takes_body = operation.method != "GET" && !operation.fields.is_empty();
            match named {
                // On one's own sandbox, without anything of the owner's, there
                // is nothing to learn.
                None if !open => {}
                None => {
                    let body = takes_body.then_some(body);
                    stranger.call(operation, &target, body).await;
                }
                Some(name) => {
                    let status = stranger.call(operation, &target, Some(body)).await;
                    let called = format!("{} {target} with {name}", operation.method);
                    let refused = (400..500).contains(&status);
                    let later = LATER.contains(&operation.path.as_str()) && status == 202;
                    // That none of it came about, the owner's view shows.
                    let each = EACH.contains(&operation.path.as_str()) && status == 200;
                    assert!(refused || later || each, "{called}: {status}");
                }
            }
        }
    }
    let done = || async { rig.store.unsettled_batches().await.unwrap().is_empty() };
    eventually("the stranger's batches are settled", done).await;
    // What it has now is in none of the owner's places.
    for operation in &operations {
        if operation.method == "GET" && operation.parameters().next().is_none() {
            stranger.call(operation, &operation.path, None).await;
        }
    }
    let after = view(&owner, &owned, &operations).await;
    for (target, then) in &before {
        assert_eq!(then, &after[target], "{target} is not what it was");
    }
    // Neither of them got in the other's way.
    let ended = stranger.who.delete(&format!("/sandboxes/{own}")).await;
    assert_eq!(ended.status, 200, "{:#}", ended.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_keys_are_each_tenants_own() {
    let rig = Rig::new().await;
    let owner = Who::operator(&rig);
    let stranger = Who::of_another_tenant(&rig, "stranger").await;
    let mut made = Vec::new();
    for who in [&owner, &stranger] {
        let request = who.request("POST", "/sandboxes").json(&json!({}));
        let request = request.header("Idempotency-Key", "the-same");
        made.push(super::Reply::to(request).await.ok(201)["id"].clone());
    }
    assert_ne!(made[0], made[1]);
}
