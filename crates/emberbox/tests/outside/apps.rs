//! Apps of templates, and the deployments made of them.

use serde_json::{Value, json};

use crate::previews::expose;
use crate::rig::sandbox::Sandbox;
use crate::rig::server::Server;
use crate::rig::visitor::{BROWSER, Visitor};
use crate::rig::{Rig, eventually};

/// An app that serves what its file says, and leaves something behind.
const PYTHON: &[u8] = b"\
import http.server, os\n\
open('report.txt', 'w').write('made by ' + os.environ['WHO'])\n\
print('listening', flush=True)\n\
handler = http.server.SimpleHTTPRequestHandler\n\
http.server.HTTPServer(('0.0.0.0', 8080), handler).serve_forever()\n";

fn lifecycle(sandbox: &Sandbox<'_>) -> Value {
    let artifacts = sandbox.api.get(&sandbox.at("/artifacts")).ok(200);
    artifacts["data"]["lifecycle"].clone()
}

fn started(sandbox: &Sandbox<'_>, body: &Value) -> Value {
    let path = sandbox.at("/template/start");
    sandbox.api.post(&path, body).ok(200)["data"].clone()
}

pub(crate) fn started_by_themselves(rig: &Rig) {
    let api = rig.api();
    let visitor = Visitor::new();
    let body = json!({ "template_id": "static-html", "auto_start": true, "timeout_sec": 3600 });
    let sandbox = Sandbox::with(&api, &body);
    let url = sandbox.record["preview_url"].as_str().unwrap();
    sandbox.upload("/workspace/index.html", b"<h1>static</h1>");
    assert_eq!(visitor.until_served(url).ok(), "<h1>static</h1>");
    let life = eventually("the start is over", || {
        let life = lifecycle(&sandbox);
        (life["status"] == "started").then_some(life)
    });
    assert_eq!(life["ready"], true, "{life}");
    let artifacts = api.get(&sandbox.at("/artifacts")).ok(200)["data"].clone();
    assert_eq!(artifacts["preview"], json!({ "url": url, "port": 8000 }));
    assert_eq!(expose_own(&sandbox), url);

    // Its log, and what comes to it.
    let mut log = api.follow(&sandbox.at("/logs/stream"), None);
    log.until(|event| {
        event
            .text("line")
            .starts_with("$ python3 -m http.server 8000")
    });
    visitor.get(&format!("{url}/seen-in-the-log"));
    let line = log.until(|event| event.text("line").contains("GET /seen-in-the-log"));
    assert_eq!(line.name, "log");
    let logs = api.get(&sandbox.at("/logs?lines=1000")).ok(200)["data"].clone();
    let lines = logs["lines"].as_array().unwrap();
    assert!(lines.contains(&line.data["line"]), "{logs}");
    assert!(
        lines[0]
            .as_str()
            .unwrap()
            .ends_with("sandbox is provisioning")
    );
    let last = api.get(&sandbox.at("/logs?lines=1")).ok(200);
    assert_eq!(last["data"]["lines"].as_array().unwrap().len(), 1);
    api.get(&sandbox.at("/logs?lines=0")).names("lines");
    sandbox.destroy();
    log.rest();
}

/// The address without a port of one's own.
fn expose_own(sandbox: &Sandbox<'_>) -> String {
    let answer = sandbox.api.post(&sandbox.at("/expose"), &json!({}));
    answer.ok(200)["url"].as_str().unwrap().to_owned()
}

pub(crate) fn started_when_asked(rig: &Rig) {
    let api = rig.api();
    let visitor = Visitor::new();
    let body = json!({ "template_id": "python", "env": { "WHO": "python" } });
    let sandbox = Sandbox::with(&api, &body);
    assert_eq!(lifecycle(&sandbox)["status"], "not_started");
    let path = sandbox.at("/template/start");
    // An image of the template's own brings a starter.
    sandbox.say("rm -f /workspace/main.py");
    // Without its file it cannot be started, and the log says why.
    let error = api
        .post(&path, &json!({}))
        .refused(422, "TEMPLATE_START_FAILED");
    let tail = error["details"]["log_tail"].as_str().unwrap();
    assert!(tail.contains("main.py"), "{error}");
    assert_eq!(lifecycle(&sandbox)["status"], "failed");
    sandbox.upload("/workspace/main.py", PYTHON);
    let body = json!({ "install": false, "port": 8080,
        "readiness_probe": { "type": "http", "url": "http://127.0.0.1:8080/" } });
    let app = started(&sandbox, &body);
    assert_eq!(
        (&app["status"], &app["ready"]),
        (&json!("started"), &json!(true))
    );
    assert_eq!(app["template_id"], "python");
    assert_eq!(app["preview_port"], 8080);
    let pid = sandbox.say(&format!("cat {}", app["pid_path"].as_str().unwrap()));
    assert_eq!(pid, app["pid"].to_string());
    let url = app["preview_url"].as_str().unwrap();
    let report = visitor.get(&format!("{url}/report.txt"));
    assert_eq!(report.ok(), "made by python");
    let artifacts = api.get(&sandbox.at("/artifacts")).ok(200)["data"].clone();
    assert_eq!(artifacts["artifact_paths"], json!(["/workspace"]));
    assert_eq!(artifacts["lifecycle"]["pid"], app["pid"]);
    // Once is enough, unless a restart is wanted.
    api.post(&path, &body).refused(409, "RESOURCE_STATE");
    let mut again = body.clone();
    again["restart"] = json!(true);
    let second = started(&sandbox, &again);
    assert_ne!(second["pid"], app["pid"]);
    assert!(!sandbox.has_process(&pid));
    assert_eq!(visitor.get(&format!("{url}/report.txt")).status, 200);
    sandbox.say(&format!("kill -9 -- -{}", second["pid"]));
    eventually("its end is seen", || {
        (lifecycle(&sandbox)["status"] == "exited").then_some(())
    });
    for (field, body) in [
        ("workdir", json!({ "workdir": "workspace" })),
        ("start_command", json!({ "start_command": "" })),
        ("install_timeout_sec", json!({ "install_timeout_sec": 0 })),
    ] {
        api.post(&path, &body).names(field);
    }
    api.post(&path, &json!({ "port": 871 }))
        .refused(422, "INVALID_PORT");
}

pub(crate) fn deployed(rig: &Rig) {
    let mut server = Server::start(&rig.binary);
    let api = server.api();
    let visitor = Visitor::new();
    let body = json!({ "template_id": "static-html", "timeout_sec": 60 });
    let sandbox = Sandbox::with(&api, &body);
    sandbox.upload("/workspace/index.html", b"deployed");
    started(&sandbox, &json!({}));
    let deploy = sandbox.at("/deploy");
    api.post(&deploy, &json!({})).refused(400, "MISSING_PARAM");
    api.post(&deploy, &json!({ "name": "x", "port": 0 }))
        .refused(422, "INVALID_PORT");
    let body = json!({ "name": "My Shop", "custom_domain": "Shop.Example.com" });
    let made = api.post(&deploy, &body).ok(201);
    assert_eq!(made["state"], "running", "{made}");
    let id = made["deployment_id"].as_str().unwrap();
    let path = format!("/deployments/{id}");
    let url = made["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://my-shop-"), "{url}");
    let seen = |url: &str| {
        assert_eq!(visitor.get(url).ok(), "deployed");
        assert_eq!(visitor.get_as(url, "shop.example.com").ok(), "deployed");
    };
    seen(&url);
    // It stays: its sandbox ends when somebody wants it to.
    let record = sandbox.get();
    assert_eq!(record["timeout_remaining_ms"], Value::Null, "{record}");
    sandbox.keep();
    server.kill_9();
    server.restart();

    let api = server.api();
    let sandbox = Sandbox::known(&api, record);
    // This server has another port after each start, so the address is asked
    // for again.
    let known = api.get(&path).ok(200)["data"].clone();
    assert_eq!(known["state"], "running");
    let url = known["url"].as_str().unwrap().to_owned();
    seen(&url);
    // It moves to another sandbox and keeps its name.
    let next = Sandbox::with(&api, &json!({ "template_id": "static-html" }));
    next.upload("/workspace/index.html", b"moved");
    started(&next, &json!({}));
    let body = json!({ "deployment_id": id });
    let moved = api.post(&next.at("/deploy"), &body).ok(201);
    assert_eq!((&moved["id"], &moved["url"]), (&known["id"], &known["url"]));
    assert_eq!(visitor.get(&url).ok(), "moved");
    let taken = json!({ "name": "other", "domain": "shop.example.com" });
    api.post(&sandbox.at("/deploy"), &taken)
        .refused(409, "NAME_TAKEN");
    next.destroy();
    let page = visitor.get_with(&url, &[BROWSER]);
    page.tells(503, "This app is not running");
    visitor.get(&url).refused(503, "DEPLOYMENT_STOPPED");
    assert_eq!(api.get(&path).ok(200)["data"]["state"], "stopped");
    // The first sandbox is its own master again; its preview is another name.
    assert_eq!(visitor.get(&expose(&sandbox, 8000)).ok(), "deployed");
    api.delete(&path).ok(200);
    assert_eq!(visitor.get(&url).status, 404);
    api.get(&path).refused(404, "NOT_FOUND");
    sandbox.destroy();
    server.finish().unwrap();
}
