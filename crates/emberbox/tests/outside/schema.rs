//! The published document, tried against the server by who knows nothing but
//! the document: schemathesis makes up requests, legal and illegal ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::official_client::environment;
use crate::rig::Rig;
use crate::rig::api::Api;
use crate::rig::sandbox::Sandbox;

const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What every answer is held to.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance";

/// How long it makes up requests, in seconds, for each way of asking.
const SECONDS: &str = "25";

/// Streams stay open.
const STREAMS: &str = "(stream|events|watch)$";

pub(crate) fn holds(rig: &Rig) {
    let api = rig.api();
    // Identifiers that name nothing, then a sandbox that is really there.
    try_all(&api, "", "^$");
    let sandbox = Sandbox::with(&api, &json!({ "timeout_sec": 3600 }));
    let known = format!("[parameters]\n\"path.id\" = \"{}\"\n", sandbox.id);
    // What ends it would leave nothing to try the rest on.
    try_all(
        &api,
        &known,
        "^((DELETE|POST) /sandboxes(/\\{id\\}(/stop|/pause|/restore.*)?)?|POST /bulk/.*)$",
    );
    for id in api.live() {
        api.delete(&format!("/sandboxes/{id}")).ok(200);
    }
}

fn try_all(api: &Api, config: &str, except: &str) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("schemathesis.toml"), config).unwrap();
    let output = schemathesis(&environment(SCHEMATHESIS), api, except)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No issues found"), "{said}");
}

fn schemathesis(environment: &Path, api: &Api, except: &str) -> Command {
    let mut command = Command::new(environment.join("bin/st"));
    command
        .arg("run")
        .arg(format!("{}/openapi.json", api.url))
        .args(["--origin", &api.url])
        .args(["--header", &format!("Authorization: Bearer {}", api.key)])
        .args(["--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing"])
        .args(["--max-time", SECONDS, "--seed", "1"])
        .args(["--exclude-path-regex", STREAMS])
        .args(["--exclude-name-regex", except])
        .args(["--request-timeout", "60", "--warnings", "off", "--no-color"])
        .env("NO_PROXY", "*");
    command
}
