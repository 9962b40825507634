//! The platform's templates, built by a running server from the specs in the
//! repository: their apps answer from the first moment.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser;
use crate::official_client;
use crate::rig::api::Api;
use crate::rig::sandbox::Sandbox;
use crate::rig::visitor::Visitor;
use crate::rig::{Rig, eventually, eventually_within};

/// Longest until an app that was started anew answers, in emulation.
const ANEW: Duration = Duration::from_secs(600);

/// Templates that were built for one test; without their images afterwards.
pub(crate) struct Seeded<'a> {
    rig: &'a Rig,
    pub(crate) api: Api,
    templates: Vec<&'static str>,
}

impl<'a> Seeded<'a> {
    /// Has them built from the command line, as an operator would.
    pub(crate) fn of(rig: &'a Rig, templates: &[&'static str]) -> Self {
        let seeded = Self {
            rig,
            api: rig.api(),
            templates: templates.to_vec(),
        };
        let said = seeded.emberbox("seed");
        let progress = String::from_utf8_lossy(&said.stderr);
        for part in ["building", "[1] set -eu", "snapshotting", "certifying"] {
            assert!(progress.contains(part), "{part}: {progress}");
        }
        for template in templates {
            let known = seeded.template(template);
            assert_eq!(known["state"], "ready", "{known}");
            assert_ne!(known["image_id"], "miosa-sandbox");
        }
        seeded
    }

    fn emberbox(&self, command: &str) -> Output {
        let output = Command::new(&self.rig.binary)
            .args(["template", command])
            .args(&self.templates)
            .env("EMBERBOX_URL", &self.api.url)
            .env("EMBERBOX_API_KEY", &self.api.key)
            // The server is on this machine, whatever the environment says.
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {stderr}");
        output
    }

    /// As it is listed.
    pub(crate) fn template(&self, id: &str) -> Value {
        let list = self.api.get("/sandbox-templates").ok(200);
        let mut data = list["data"].as_array().unwrap().iter();
        data.find(|template| template["id"] == id).unwrap().clone()
    }

    /// A sandbox whose app answers the very first request.
    pub(crate) fn opened(&self, template: &str, words: &str) -> Sandbox<'_> {
        let asked = json!({ "template_id": template, "auto_start": true, "timeout_sec": 3600 });
        let sandbox = Sandbox::with(&self.api, &asked);
        assert_eq!(sandbox.record["boot_path"], "snapshot");
        let url = sandbox.record["preview_url"].as_str().unwrap();
        let page = Visitor::new().get(url).ok();
        assert!(page.contains(words), "{template}: {page}");
        let life = eventually("the start is over", || {
            let artifacts = self.api.get(&sandbox.at("/artifacts")).ok(200);
            let life = artifacts["data"]["lifecycle"].clone();
            (life["status"] == "started").then_some(life)
        });
        assert_eq!(life["ready"], true, "{life}");
        sandbox
    }

    /// Removes the images; nothing of them stays.
    pub(crate) fn remove(self) {
        let known = self
            .templates
            .iter()
            .map(|template| self.template(template));
        let images: Vec<_> = known.map(|known| known["image_id"].clone()).collect();
        self.emberbox("rm");
        for template in &self.templates {
            assert_eq!(self.template(template)["state"], "draft");
        }
        for image in images {
            image_goes(image.as_str().unwrap());
        }
    }
}

/// Waits until an image that nobody needs is no more on this machine.
pub(crate) fn image_goes(image: &str) {
    let file = home().join(format!("rootfs/{image}.json"));
    eventually("the image is gone", || (!file.exists()).then_some(()));
}

fn home() -> PathBuf {
    let home = std::env::var_os("EMBERBOX_HOME");
    home.map_or_else(|| PathBuf::from("/var/lib/emberbox"), PathBuf::from)
}

/// The quickest of them: its app, its log, its files, and a spec of a tenant's
/// own that says the same.
pub(crate) fn python(rig: &Rig) {
    let seeded = Seeded::of(rig, &["python"]);
    let sandbox = seeded.opened("python", "main.py");
    let url = sandbox.record["preview_url"].as_str().unwrap().to_owned();
    let visitor = Visitor::new();
    let hello = visitor.get(&format!("{url}/hello?name=you"));
    assert_eq!(hello.ok(), "Hello, you!\n");

    // What it wrote before anybody had it, and what it writes now.
    let mut log = seeded.api.follow(&sandbox.at("/logs/stream"), None);
    log.until(|event| event.text("line") == "$ python3 main.py");
    log.until(|event| event.text("line").contains("GET /hello?name=you"));
    let logs = seeded.api.get(&sandbox.at("/logs?lines=1000")).ok(200);
    let lines = logs["data"]["lines"].as_array().unwrap();
    let starts = lines.iter().filter(|line| **line == "$ python3 main.py");
    assert_eq!(starts.count(), 1, "{logs}");

    // Who brings an app starts that instead.
    let app = "from http.server import *\n\
               HTTPServer(('', 8000), SimpleHTTPRequestHandler).serve_forever()\n";
    sandbox.upload("/workspace/main.py", app.as_bytes());
    let body = json!({ "port": 8000 });
    let started = seeded.api.post(&sandbox.at("/template/start"), &body);
    assert_eq!(started.ok(200)["data"]["ready"], true);
    assert_eq!(visitor.get(&format!("{url}/hello")).status, 404);
    sandbox.destroy();
    log.rest();

    // Who did not ask for the app has its port.
    let plain = Sandbox::with(&seeded.api, &json!({ "template_id": "python" }));
    assert_eq!(
        plain.say("test -f /workspace/main.py && echo here; ls /tmp/miosa-run"),
        "here"
    );
    // As servers ask for it: connections that are over do not count.
    let bind = "import socket as s; port = s.socket(); \
                port.setsockopt(s.SOL_SOCKET, s.SO_REUSEADDR, 1); port.bind(('', 8000)); port.listen()";
    assert_eq!(plain.say(&format!("python3 -c \"{bind}\"")), "");
    plain.destroy();

    prepared(&seeded);
    official_client::templates(&seeded.api, &seeded.template("python"));
    seeded.remove();
}

/// What is asked for often is made ahead, with its app in it: that answers, too,
/// and is gone for who did not ask for it.
fn prepared(seeded: &Seeded<'_>) {
    for auto_start in [true, false] {
        let asked = json!({
            "template_id": "python",
            "auto_start": auto_start,
            "timeout_sec": 3600,
        });
        let sandbox = eventually("a create takes a prepared VM", || {
            let answer = seeded.api.post("/sandboxes?wait=true", &asked);
            let timing = answer.server_timing.as_deref().unwrap_or_default();
            let sandbox = Sandbox::known(&seeded.api, answer.ok(201));
            timing.contains("desc=\"prepared\"").then_some(sandbox)
        });
        let url = sandbox.record["preview_url"].as_str().unwrap();
        let hello = Visitor::new().get(&format!("{url}/hello?name=you"));
        if auto_start {
            assert_eq!(hello.ok(), "Hello, you!\n");
        } else {
            assert_ne!(hello.status, 200, "{}", hello.text());
        }
        sandbox.destroy();
    }
}

/// The four that are large.
pub(crate) fn nextjs(rig: &Rig) {
    let seeded = Seeded::of(rig, &["nextjs"]);
    let sandbox = seeded.opened("nextjs", "<h1>Next.js</h1>");
    browser::counts(&sandbox, "Next.js");
    sandbox.destroy();
    seeded.remove();
}

pub(crate) fn streamlit(rig: &Rig) {
    let seeded = Seeded::of(rig, &["streamlit"]);
    let sandbox = seeded.opened("streamlit", "<title>Streamlit</title>");
    browser::says(&sandbox, "h1", "Streamlit");
    sandbox.destroy();
    seeded.remove();
}

pub(crate) fn gradio(rig: &Rig) {
    let seeded = Seeded::of(rig, &["gradio"]);
    let sandbox = seeded.opened("gradio", "Gradio");
    browser::says(&sandbox, "h1", "Gradio");
    sandbox.destroy();
    seeded.remove();
}

/// What a platform does that generates apps: its files into the image that has
/// the dependencies, then the template's own start.
pub(crate) fn generated(rig: &Rig) {
    let seeded = Seeded::of(rig, &["vite-react"]);
    let asked = json!({ "template_id": "vite-react", "timeout_sec": 3600 });
    let sandbox = Sandbox::with(&seeded.api, &asked);
    let app = "export default function App() { return <h1>generated</h1>; }\n";
    sandbox.upload("/workspace/src/App.jsx", app.as_bytes());
    let body = json!({ "install_timeout_sec": 600, "start_timeout_sec": 300 });
    let api = seeded.api.patient(ANEW);
    let started = api.post(&sandbox.at("/template/start"), &body).ok(200);
    assert_eq!(started["data"]["ready"], true, "{started}");
    let url = started["data"]["preview_url"].as_str().unwrap().to_owned();
    let visitor = Visitor::new();
    eventually_within(ANEW, "the generated file is served", || {
        let source = visitor.get(&format!("{url}/src/App.jsx"));
        (source.status == 200 && source.text().contains("generated")).then_some(())
    });
    sandbox.destroy();
    seeded.remove();
}
