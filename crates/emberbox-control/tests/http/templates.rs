//! Templates of the platform and of tenants, and their specs.

use emberbox_api::client::Client;
use emberbox_control::Settings;
use serde_json::{Value, json};

use crate::rig::{Rig, answer};

pub(crate) fn spec() -> Value {
    json!({
        "from": "debian:bookworm",
        "steps": [{"run": "apt-get install -y nginx"}, {"workdir": "/workspace"}],
        "env": {"MODE": "test"},
        "startCmd": "serve",
        "previewPort": 8080,
        "artifactPaths": ["/workspace/out"]
    })
}

pub(crate) async fn create(rig: &Rig, slug: &str) -> Value {
    let body = json!({"name": slug, "slug": slug, "build_spec": spec()});
    let (status, _, body) = answer(rig.request("POST", "/sandbox-templates").json(&body)).await;
    assert_eq!(status, 201, "{body}");
    body["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_says_what_the_parser_does() {
    let rig = Rig::new().await;
    let (status, _, schema) = answer(rig.request("GET", "/sandbox-templates/build-spec")).await;
    assert_eq!((status, &schema["version"]), (200, &json!("2026-05-13")));
    assert_eq!(schema["fields"]["from"]["required"], true);
    assert_eq!(schema["fields"]["memoryMib"]["default"], 1024);
    assert_eq!(schema["fields"].as_object().unwrap().len(), 12);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let table = [
        (spec(), true),
        (json!({"from": "debian"}), true),
        (
            json!({"from": "debian", "steps": [{"run": "a", "env": {"A": "b"}}]}),
            true,
        ),
        (json!({}), false),
        (json!({"from": ""}), false),
        (json!({"from": "debian", "vcpu": 0}), false),
        (json!({"from": "debian", "vcpu": 1.5}), false),
        (json!({"from": "debian", "memoryMib": 1 << 20}), false),
        (json!({"from": "debian", "steps": [{"copy": "x"}]}), false),
        (json!({"from": "debian", "steps": [{}]}), false),
        (json!({"from": "debian", "env": {"A": 1}}), false),
        (json!({"from": "debian", "workdir": "here"}), false),
        (json!({"from": "debian", "previewPort": 70000}), false),
        (json!({"from": "debian", "artifactPaths": ["out"]}), false),
    ];
    for (spec, valid) in table {
        assert_eq!(validator.is_valid(&spec), valid, "{spec}");
        let request = rig.request("POST", "/sandbox-templates/validate");
        let (status, _, body) = answer(request.json(&json!({"build_spec": spec}))).await;
        assert_eq!((status, &body["valid"]), (200, &json!(valid)), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_is_made_complete_or_every_error_is_named() {
    let rig = Rig::new().await;
    let validate = async |body: Value| {
        let request = rig.request("POST", "/sandbox-templates/validate");
        let (status, _, body) = answer(request.json(&body)).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    let valid = validate(json!({"build_spec": {"from": "debian"}})).await;
    assert_eq!(valid["build_spec"]["workdir"], "/workspace");
    assert!(valid.get("errors").is_none(), "{valid}");
    let invalid = validate(json!({"build_spec": {"from": "node:22-alpine", "vcpu": 99}})).await;
    assert_eq!(
        (
            &invalid["errors"][0]["code"],
            &invalid["errors"][0]["field"]
        ),
        (&json!("UNSUPPORTED_BASE_IMAGE"), &json!("from"))
    );
    assert_eq!(invalid["errors"][1]["code"], "OUT_OF_RANGE");
    assert!(invalid.get("build_spec").is_none(), "{invalid}");
    let nothing = validate(json!({})).await;
    assert_eq!(
        (
            &nothing["errors"][0]["code"],
            &nothing["errors"][0]["field"]
        ),
        (&json!("REQUIRED"), &json!("build_spec"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_a_tenant_stand_beside_the_platforms() {
    let rig = Rig::new().await;
    let made = create(&rig, "agent-web-app").await;
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("tpl_"), "{made}");
    for (field, value) in [
        ("slug", json!("agent-web-app")),
        ("state", json!("draft")),
        ("image_id", Value::Null),
        ("category", json!("custom")),
        ("preview_port", json!(8080)),
        ("start_command", json!("serve")),
        ("artifact_paths", json!(["/workspace/out"])),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    for name in [id, "agent-web-app"] {
        let (status, _, body) =
            answer(rig.request("GET", &format!("/sandbox-templates/{name}"))).await;
        assert_eq!((status, &body["data"]), (200, &made));
    }
    let (_, _, list) = answer(rig.request("GET", "/sandbox-templates")).await;
    let list = list["data"].as_array().unwrap();
    assert_eq!((list.len(), list.last()), (8, Some(&made)));
    assert!(list[0].get("slug").is_none(), "the platform's have none");

    // Nothing of it is visible to another tenant, and nothing of it is taken.
    let other = rig
        .store
        .create_tenant("other")
        .await
        .unwrap()
        .secret
        .unwrap();
    let foreign = |method: &str, path: &str| {
        let key = secrecy::ExposeSecret::expose_secret(&other).to_owned();
        let method = method.parse().unwrap();
        let url = format!("{}{path}", rig.url);
        rig.http.request(method, url).bearer_auth(key)
    };
    for (method, rest) in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/builds"),
        ("POST", "/builds"),
    ] {
        let path = format!("/sandbox-templates/{id}{rest}");
        let (status, code, _) = answer(foreign(method, &path)).await;
        assert_eq!(
            (status, code.as_str()),
            (404, "NOT_FOUND"),
            "{method} {path}"
        );
    }
    let (status, code, _) =
        answer(foreign("POST", "/sandboxes").json(&json!({"template_id": "agent-web-app"}))).await;
    assert_eq!((status, code.as_str()), (400, "INVALID_TEMPLATE"));
    let body = json!({"name": "Agent Web App", "build_spec": spec()});
    let (status, _, body) = answer(foreign("POST", "/sandbox-templates").json(&body)).await;
    assert_eq!(
        (status, &body["data"]["slug"]),
        (201, &json!("agent-web-app"))
    );
    let client = Client::new(rig.url.trim_end_matches("/api/v1"), other).unwrap();
    assert_eq!(client.list_templates().await.unwrap().data.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn slugs_are_unique_and_wrong_templates_are_refused() {
    let mut settings = Settings::default();
    settings.builds.max_templates = 2;
    let rig = Rig::with(settings).await;
    create(&rig, "app").await;
    let post =
        async |body: Value| answer(rig.request("POST", "/sandbox-templates").json(&body)).await;
    for slug in ["app", "nextjs", "static", "build-spec", "validate"] {
        let (status, code, _) =
            post(json!({"name": "n", "slug": slug, "build_spec": spec()})).await;
        assert_eq!((status, code.as_str()), (409, "NAME_TAKEN"), "{slug}");
    }
    let (status, code, body) =
        post(json!({"slug": "No", "build_spec": {"from": "alpine", "previewPort": 0}})).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let details = body["error"]["details"].as_array().unwrap();
    let codes: Vec<_> = details.iter().map(|e| (&e["code"], &e["field"])).collect();
    assert_eq!(
        codes,
        [
            (&json!("VALIDATION_ERROR"), &json!("slug")),
            (&json!("UNSUPPORTED_BASE_IMAGE"), &json!("from")),
            (&json!("INVALID_PORT"), &json!("previewPort")),
        ]
    );
    let (status, code, _) = post(json!({"name": 5})).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    create(&rig, "second").await;
    let (status, code, _) = post(json!({"name": "third", "build_spec": spec()})).await;
    assert_eq!((status, code.as_str()), (409, "TEMPLATE_LIMIT_EXCEEDED"));

    let (status, ..) = delete(&rig, "second").await;
    assert_eq!(status, 204);
    let (status, code) = delete(&rig, "second").await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
    // The platform's are not anybody's to delete.
    let (status, code) = delete(&rig, "nextjs").await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));
    create(&rig, "second").await;
}

/// Status and code of a delete.
pub(crate) async fn delete(rig: &Rig, name: &str) -> (u16, String) {
    let request = rig.request("DELETE", &format!("/sandbox-templates/{name}"));
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = match status {
        204 => Value::Null,
        _ => response.json().await.unwrap(),
    };
    let code = body["error"]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}
