//! Apps seen by a real browser through their previews: they render, their code
//! runs, and an edited file changes the page by itself.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use crate::catalog::Seeded;
use crate::rig::sandbox::Sandbox;
use crate::rig::{Rig, eventually_within};

/// Longest until a page is there: a first compilation, in emulation.
const SLOW: Duration = Duration::from_secs(600);

/// Longest until the page shows an edit.
const RELOAD: Duration = Duration::from_secs(120);

/// Pause between two looks at the page.
const LOOK: Duration = Duration::from_millis(100);

/// What the starter's `src/App.jsx` becomes.
const AFTER: &str = "import { useState } from \"react\";\nexport default function App() {\n  \
    const [count, setCount] = useState(0);\n  \
    return <main><h1>after</h1><button onClick={() => setCount(count + 1)}>count is {count}</button></main>;\n}\n";

pub(crate) fn hot_reload(rig: &Rig) {
    let seeded = Seeded::of(rig, &["vite-react"]);
    let sandbox = seeded.opened("vite-react", "<title>Vite + React</title>");
    looking_at(&sandbox, async |client| {
        count(client, "Vite + React").await;
        sandbox.upload("/workspace/src/App.jsx", AFTER.as_bytes());
        let changed = until(client, "h1", "after");
        let changed = tokio::time::timeout(RELOAD, changed).await;
        changed.expect("a hot reload");
        // What the page holds is lost by a reload, and kept by a hot one.
        until(client, "button", "count is 1").await;
    });
    sandbox.destroy();
    seeded.remove();
}

/// That a page renders this heading, and that its code runs.
pub(crate) fn counts(sandbox: &Sandbox<'_>, heading: &str) {
    looking_at(sandbox, async |client| count(client, heading).await);
}

/// That a page renders an element with this text.
pub(crate) fn says(sandbox: &Sandbox<'_>, element: &str, words: &str) {
    looking_at(sandbox, async |client| until(client, element, words).await);
}

async fn count(client: &Client, heading: &str) {
    until(client, "h1", heading).await;
    // The button may be there before its code is.
    let counted = async {
        while text(client, "button").await.as_deref() != Some("count is 1") {
            let button = client.find(Locator::Css("button")).await;
            if text(client, "button").await.as_deref() == Some("count is 0") {
                button.unwrap().click().await.unwrap();
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let counted = tokio::time::timeout(SLOW, counted).await;
    counted.expect("the button counts");
}

/// Waits until an element has this text.
async fn until(client: &Client, element: &str, words: &str) {
    let seen = async {
        while text(client, element).await.as_deref() != Some(words) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let seen = tokio::time::timeout(SLOW, seen).await;
    if seen.is_err() {
        let page = client.source().await.unwrap();
        panic!("{element} never says {words:?}: {page}");
    }
}

/// `None` while it is not there, or just replaced.
async fn text(client: &Client, element: &str) -> Option<String> {
    let found = client.find(Locator::Css(element)).await.ok()?;
    found.text().await.ok()
}

/// Opens a sandbox's preview in a browser of its own.
fn looking_at(sandbox: &Sandbox<'_>, look: impl AsyncFnOnce(&Client)) {
    let url = sandbox.record["preview_url"].as_str().unwrap();
    let driver = Driver::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"];
        let capabilities = json!({ "goog:chromeOptions": { "args": arguments } });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&driver.url)
            .await
            .unwrap();
        client.goto(url).await.unwrap();
        look(&client).await;
        client.close().await.unwrap();
    });
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
