//! Builds whose images go to an artifact source, and a server that is killed
//! meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::catalog;
use crate::rig::api::Api;
use crate::rig::sandbox::Sandbox;
use crate::rig::server::{NONE_PREPARED, Server};
use crate::rig::{Rig, eventually_within};

/// Longest until an image is certified, or published, in emulation.
const BUILT: Duration = Duration::from_secs(300);

const TEMPLATE: &str = "sent";

/// Killed in `distributing`: nothing is offered that is not wholly in the
/// source, nothing is left half there, and the next server brings it to its
/// end.
pub(crate) fn killed(rig: &Rig) {
    let source = tempfile::tempdir().unwrap();
    // As if another host removed something just now: publishing waits.
    let collecting = source.path().join("collecting");
    fs::write(&collecting, "").unwrap();
    let directory = source.path().display();
    let config = format!("{NONE_PREPARED}[artifacts]\nsource = \"{directory}\"\n");
    let mut server = Server::start_with(&rig.binary, &config);

    let api = server.api();
    let spec = json!({ "from": "miosa-sandbox" });
    let body = json!({ "name": TEMPLATE, "build_spec": spec });
    api.post("/sandbox-templates", &body).ok(201);
    let at = format!("/sandbox-templates/{TEMPLATE}/builds");
    let queued = api.post(&at, &json!({})).ok(201);
    let build = queued["data"]["id"].as_str().unwrap().to_owned();
    is(&api, &build, "distributing");
    eventually_within(BUILT, "it publishes", || {
        (!described(source.path(), "publishing").is_empty()).then_some(())
    });
    let early = api.post("/sandboxes", &json!({ "template_id": TEMPLATE }));
    early.refused(409, "TEMPLATE_NOT_READY");
    server.kill_9();
    assert_eq!(described(source.path(), "images"), [""; 0]);

    fs::remove_file(&collecting).unwrap();
    server.restart();
    let api = server.api();
    let built = is(&api, &build, "ready");
    let image = built["snapshot_manifest"]["image_id"].as_str().unwrap();
    let published = described(source.path(), "images");
    let of_it = |end: &str| {
        let names = published.iter().filter(|name| name.contains(image));
        names.filter(|name| name.contains(end)).count()
    };
    assert_eq!((of_it("/image.json"), of_it("/seeds/")), (1, 1));
    assert_eq!(described(source.path(), "publishing"), [""; 0]);
    let sandbox = Sandbox::with(&api, &json!({ "template_id": TEMPLATE }));
    assert_eq!(sandbox.record["boot_path"], "snapshot");
    sandbox.destroy();

    let gone = api.delete(&format!("/sandbox-templates/{TEMPLATE}"));
    assert_eq!(gone.status, 204);
    catalog::image_goes(image);
    eventually_within(BUILT, "the source has it no more", || {
        let published = described(source.path(), "images");
        (!published.iter().any(|name| name.contains(image))).then_some(())
    });
    server.finish().unwrap();
}

/// Waits until a build is in a state.
fn is(api: &Api, build: &str, state: &str) -> Value {
    eventually_within(BUILT, state, || {
        let answer = api.get(&format!("/sandbox-template-builds/{build}"));
        let build = answer.ok(200)["data"].clone();
        assert_ne!(build["state"], "failed", "{build}");
        (build["state"] == state).then_some(build)
    })
}

/// What a source describes below a directory.
fn described(source: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![source.join(below)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
