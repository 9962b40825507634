//! Visits that wake a paused sandbox.

use emberbox_api::{CreateSandbox, Sandbox};
use emberbox_control::{PreviewSettings, Settings};
use emberbox_core::VmId;
use serde_json::{Value, json};

use super::{Site, ask, echo, host};
use crate::rig::{Rig, answer, eventually};

async fn rig(wake: bool) -> Rig {
    let preview = PreviewSettings {
        wake,
        ..PreviewSettings::default()
    };
    Rig::with(Settings {
        preview,
        ..Settings::default()
    })
    .await
}

async fn paused(rig: &Rig, persistent: bool) -> Sandbox {
    let create = CreateSandbox {
        persistent: Some(persistent),
        ..CreateSandbox::default()
    };
    let sandbox = rig.client.create_sandbox(&create).await.unwrap();
    pause(rig, &sandbox).await;
    sandbox
}

async fn pause(rig: &Rig, sandbox: &Sandbox) {
    let request = rig.request("POST", &format!("/sandboxes/{}/pause", sandbox.id));
    assert_eq!(answer(request).await.0, 200);
}

async fn state(rig: &Rig, sandbox: &Sandbox) -> Value {
    let request = rig.request("GET", &format!("/sandboxes/{}", sandbox.id));
    answer(request).await.2["state"].clone()
}

fn vm(rig: &Rig) -> VmId {
    let [vm] = rig.fleet.running().try_into().unwrap();
    vm
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_wait_on_a_page_while_one_wake_goes_on() {
    let rig = rig(true).await;
    let sandbox = paused(&rig, true).await;
    let host = host(&sandbox, 3000);
    rig.fleet.open.send_replace(false);
    for _visitor in 0..3 {
        let page = ask(&rig, "GET", &host, "/").header("accept", "text/html");
        let page = page.send().await.unwrap();
        assert_eq!(page.status(), 503);
        assert_eq!(page.headers()["retry-after"], "2");
        let text = page.text().await.unwrap();
        assert!(text.contains("Waking up") && text.contains("http-equiv=\"refresh\""));
        let (status, code, body) = answer(ask(&rig, "POST", &host, "/")).await;
        assert_eq!((status, code.as_str()), (503, "SANDBOX_WAKING"));
        assert_eq!(body["error"]["retryable"], true);
    }
    assert!(rig.fleet.running().is_empty());
    rig.fleet.open.send_replace(true);
    eventually("awake", async || {
        state(&rig, &sandbox).await == json!("running")
    })
    .await;
    rig.fleet.listen(&vm(&rig), 3000, echo().await);
    let response = ask(&rig, "GET", &host, "/").send().await.unwrap();
    assert_eq!(response.status(), 200);
    // It is not woken again at once, however often it is visited.
    pause(&rig, &sandbox).await;
    assert_eq!(
        answer(ask(&rig, "GET", &host, "/")).await.1,
        "SANDBOX_WAKING"
    );
    assert_eq!(state(&rig, &sandbox).await, "paused");
    assert!(rig.fleet.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_preview_wakes_nothing_without_its_token() {
    let rig = rig(true).await;
    let site = {
        let create = CreateSandbox {
            persistent: Some(true),
            ..CreateSandbox::default()
        };
        let sandbox = rig.client.create_sandbox(&create).await.unwrap();
        let vm = vm(&rig);
        Site { rig, sandbox, vm }
    };
    let previews = format!("/sandboxes/{}/previews", site.sandbox.id);
    let body = json!({ "port": 3000, "visibility": "private" });
    let (_, _, made) = answer(site.rig.request("POST", &previews).json(&body)).await;
    let share = format!("{previews}/{}/share", made["data"]["id"].as_str().unwrap());
    let (_, _, shared) = answer(site.rig.request("POST", &share).json(&json!({}))).await;
    let token = shared["data"]["preview_token"].as_str().unwrap().to_owned();
    pause(&site.rig, &site.sandbox).await;
    for wrong in ["", "wrong"] {
        let visit = site.ask("GET", 3000, "/").header("x-preview-token", wrong);
        let (status, code, _) = answer(visit).await;
        assert_eq!((status, code.as_str()), (401, "PREVIEW_TOKEN_REQUIRED"));
    }
    assert!(site.rig.fleet.running().is_empty());
    assert_eq!(state(&site.rig, &site.sandbox).await, "paused");
    let visit = site.ask("GET", 3000, "/").header("x-preview-token", token);
    assert_eq!(answer(visit).await.1, "SANDBOX_WAKING");
    let awake = async || state(&site.rig, &site.sandbox).await == json!("running");
    eventually("awake", awake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_to_a_deployment_wakes_too() {
    let rig = rig(true).await;
    let create = CreateSandbox {
        persistent: Some(true),
        ..CreateSandbox::default()
    };
    let sandbox = rig.client.create_sandbox(&create).await.unwrap();
    let deploy = rig.request("POST", &format!("/sandboxes/{}/deploy", sandbox.id));
    let body = json!({ "name": "app", "port": 3000 });
    let (_, _, made) = answer(deploy.json(&body)).await;
    pause(&rig, &sandbox).await;
    let url = made["url"].as_str().unwrap();
    let name = url.trim_start_matches("http://").split(':').next().unwrap();
    assert_eq!(
        answer(ask(&rig, "GET", name, "/")).await.1,
        "SANDBOX_WAKING"
    );
    eventually("awake", async || {
        state(&rig, &sandbox).await == json!("running")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_wakes_unless_it_is_set_and_the_sandbox_persistent() {
    for (wake, persistent) in [(false, true), (true, false)] {
        let rig = rig(wake).await;
        let sandbox = paused(&rig, persistent).await;
        let (status, code, _) = answer(ask(&rig, "GET", &host(&sandbox, 3000), "/")).await;
        assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
        assert!(rig.fleet.running().is_empty());
    }
}
