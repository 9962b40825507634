//! An app made with npm inside a sandbox, seen by a real browser through its
//! preview: it renders, and an edited file changes the page by itself.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::{ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::rig::sandbox::Sandbox;
use crate::rig::{Rig, eventually_within};

/// Longest for npm, Vite and the first compilation, in emulation.
const SLOW: Duration = Duration::from_secs(900);

/// Longest until the page shows an edit.
const RELOAD: Duration = Duration::from_secs(120);

/// The last major versions that run on the guest's Node.js (Debian 12: 18).
const INSTALL: &str = "npm init -y >/dev/null && npm install --no-audit --no-fund --loglevel=warn \
    vite@6 @vitejs/plugin-react@4 react@19 react-dom@19";

const FILES: [(&str, &str); 4] = [
    (
        "index.html",
        "<!doctype html><div id=\"root\"></div><script type=\"module\" src=\"/main.jsx\"></script>\n",
    ),
    (
        "main.jsx",
        "import { createRoot } from \"react-dom/client\";\nimport App from \"./App.jsx\";\n\
         createRoot(document.getElementById(\"root\")).render(<App />);\n",
    ),
    ("App.jsx", BEFORE),
    (
        "vite.config.js",
        "import react from \"@vitejs/plugin-react\";\nexport default { plugins: [react()] };\n",
    ),
];

const BEFORE: &str = "import { useState } from \"react\";\nexport default function App() {\n  \
    const [count, setCount] = useState(0);\n  \
    return <h1 onClick={() => setCount(count + 1)}>before {count}</h1>;\n}\n";

pub(crate) fn hot_reload(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::with(
        &api,
        &json!({ "template_id": "vite-react", "cpu_count": 2, "memory_mb": 2048, "timeout_sec": 3600 }),
    );
    for (name, content) in FILES {
        sandbox.upload(&format!("/workspace/{name}"), content.as_bytes());
    }
    let body = json!({
        "install_command": INSTALL,
        "start_command": "npx vite --host 0.0.0.0 --port $PORT",
        "install_timeout_sec": 900,
        "start_timeout_sec": 300,
    });
    let started = start(&sandbox, &body);
    assert_eq!(started["ready"], true, "{started}");
    let url = started["preview_url"].as_str().unwrap().to_owned();

    let driver = Driver::start();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(look(&driver, &url, &sandbox));
}

/// A start takes longer than the clients of other tests wait.
fn start(sandbox: &Sandbox<'_>, body: &Value) -> Value {
    let api = sandbox.api.patient(SLOW);
    let path = sandbox.at("/template/start");
    api.post(&path, body).ok(200)["data"].clone()
}

async fn look(driver: &Driver, url: &str, sandbox: &Sandbox<'_>) {
    let arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"];
    let capabilities = json!({ "goog:chromeOptions": { "args": arguments } });
    let client = ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities.as_object().unwrap().clone())
        .connect(&driver.url)
        .await
        .unwrap();
    client.goto(url).await.unwrap();
    let heading = client.wait().at_most(SLOW).for_element(Locator::Css("h1"));
    let heading = heading.await.unwrap();
    assert_eq!(heading.text().await.unwrap(), "before 0");
    // What the page holds now is lost by a reload, and kept by a hot one.
    heading.click().await.unwrap();
    assert_eq!(heading.text().await.unwrap(), "before 1");

    sandbox.upload(
        "/workspace/App.jsx",
        BEFORE.replace("before", "after").as_bytes(),
    );
    let changed = async {
        loop {
            let text = client
                .find(Locator::Css("h1"))
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
            if text.starts_with("after") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let changed = tokio::time::timeout(RELOAD, changed)
        .await
        .expect("a hot reload");
    assert_eq!(
        changed, "after 1",
        "the page was not reloaded, only changed"
    );
    client.close().await.unwrap();
}

/// chromedriver, ended with its browser.
struct Driver {
    child: Child,
    url: String,
}

impl Driver {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            // Not through a proxy to this machine.
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let driver = Self {
            child,
            url: format!("http://127.0.0.1:{port}"),
        };
        eventually_within(Duration::from_secs(30), "chromedriver listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        driver
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
