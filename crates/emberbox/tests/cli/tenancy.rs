//! `emberbox tenant`, `workspace`, `project` and `key`.

use serde_json::{Value, json};

use crate::rig::{Asked, Server, stderr, stdout};

const TENANT: &str = r#"{"data":{"id":"tnt_01j9xr2t4fk8me3n5qv7w8x9y0","slug":"acme",
    "name":"Acme","limits":{},"created_at":"2026-01-01T00:00:00.000000Z","suspended_at":null}}"#;

const KEY: &str = r#"{"data":{"id":"key_01j9xr2t4fk8me3n5qv7w8x9y0","name":"ci",
    "prefix":"ebx_abcdef","scopes":["sandboxes:read"],"workspace_id":null,
    "user_id":"usr_01j9xr2t4fk8me3n5qv7w8x9y0","created_at":"2026-01-01T00:00:00.000000Z",
    "expires_at":null,"revoked_at":null,"previous_until":null,"key":"ebx_abcdefsecret"}}"#;

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap()
}

#[test]
fn a_tenant_is_made_with_limits_of_its_own() {
    let server = Server::answering("201 Created", TENANT);
    let arguments = [
        "tenant",
        "create",
        "Acme",
        "--max-sandboxes",
        "3",
        "--requests-per-minute",
        "0",
    ];
    let output = server.call(&arguments);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("tnt_01j9xr2t4fk8me3n5qv7w8x9y0\n", "")
    );
    let asked = server.asked();
    assert!(
        asked.line.starts_with("POST /api/v1/admin/tenants "),
        "{}",
        asked.line
    );
    let body = body(&asked);
    assert_eq!(body["name"], "Acme");
    assert_eq!(body["limits"]["max_sandboxes"], 3);
    assert_eq!(body["limits"]["requests_per_minute"], 0);
    assert_eq!(body["limits"]["max_vcpus"], Value::Null);
}

#[test]
fn a_change_sends_only_what_was_named() {
    for (more, expected) in [
        (&["--name", "New"][..], json!({"name": "New"})),
        (
            &["--no-limits"],
            json!({"limits": {
                "max_sandboxes": null, "max_vcpus": null, "max_memory_mib": null,
                "max_disk_mib": null, "max_snapshots": null, "max_upload_bytes": null,
                "max_workspaces": null, "max_projects": null, "max_users": null,
                "max_keys": null,
                "max_exec_timeout_sec": null, "requests_per_minute": null,
            }}),
        ),
    ] {
        let server = Server::answering("200 OK", TENANT);
        let output = server.call(&[&["tenant", "update", "tnt_1"], more].concat());
        assert_eq!((stdout(&output), stderr(&output)), ("", ""));
        let asked = server.asked();
        assert!(
            asked
                .line
                .starts_with("PATCH /api/v1/admin/tenants/tnt%5F1 "),
            "{}",
            asked.line
        );
        assert_eq!(body(&asked), expected);
    }
    let server = Server::answering("200 OK", TENANT);
    let both = [
        "tenant",
        "update",
        "tnt_1",
        "--no-limits",
        "--max-vcpus",
        "2",
    ];
    assert_eq!(server.call(&both).status.code(), Some(2));
}

#[test]
fn suspending_is_one_word() {
    for (word, suspended) in [("suspend", true), ("resume", false)] {
        let server = Server::answering("200 OK", TENANT);
        let output = server.call(&["tenant", word, "tnt_1"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(body(&server.asked()), json!({ "suspended": suspended }));
    }
}

#[test]
fn a_key_of_a_tenant_has_the_scopes_that_were_named() {
    let server = Server::answering("201 Created", KEY);
    let output = server.call(&[
        "key",
        "create",
        "--tenant",
        "tnt_1",
        "--scope",
        "sandboxes:read",
        "--scope",
        "billing:read",
    ]);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("ebx_abcdefsecret\n", "")
    );
    let asked = server.asked();
    let line = &asked.line;
    assert!(
        line.starts_with("POST /api/v1/admin/tenants/tnt%5F1/api-keys "),
        "{line}"
    );
    assert_eq!(
        body(&asked),
        json!({"scopes": ["sandboxes:read", "billing:read"]})
    );
}

#[test]
fn a_rotation_prints_the_new_secret_and_nothing_else() {
    let server = Server::answering("200 OK", KEY);
    let output = server.call(&["key", "rotate", "key_1", "--overlap", "60"]);
    assert_eq!(
        (stdout(&output), stderr(&output)),
        ("ebx_abcdefsecret\n", "")
    );
    let asked = server.asked();
    assert!(
        asked
            .line
            .starts_with("POST /api/v1/api-keys/key%5F1/rotate "),
        "{}",
        asked.line
    );
    assert_eq!(body(&asked), json!({"overlap_seconds": 60}));
}

#[test]
fn workspaces_are_a_table_and_never_more_than_a_line_each() {
    let list = r#"{"data":[{"id":"550e8400-e29b-41d4-a716-446655440000","slug":"lab",
        "name":"Lab\u001b[2J\nx","external_workspace_id":null,"is_default":false,
        "created_at":"2026-01-01T00:00:00.000000Z"}]}"#;
    let server = Server::answering("200 OK", list);
    let output = server.call(&["workspace", "list"]);
    let table = stdout(&output);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    let server = Server::answering("200 OK", list);
    let output = server.call(&["workspace", "list", "--json"]);
    let listed: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(listed[0]["slug"], "lab");
}

#[test]
fn a_project_is_made_in_the_workspace_that_was_named() {
    let made = r#"{"data":{"id":"550e8400-e29b-41d4-a716-446655440000",
        "workspace_id":"550e8400-e29b-41d4-a716-446655440001","slug":"app","name":"App",
        "external_project_id":"p1","is_default":false,
        "created_at":"2026-01-01T00:00:00.000000Z"},"reused":true}"#;
    let server = Server::answering("200 OK", made);
    let output = server.call(&[
        "project",
        "create",
        "App",
        "--external-id",
        "p1",
        "--workspace",
        "550e8400-e29b-41d4-a716-446655440001",
    ]);
    assert_eq!(stdout(&output), "550e8400-e29b-41d4-a716-446655440000\n");
    let expected = json!({
        "name": "App", "external_project_id": "p1",
        "workspace_id": "550e8400-e29b-41d4-a716-446655440001",
    });
    assert_eq!(body(&server.asked()), expected);
}
