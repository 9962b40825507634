//! Deadlines, deaths, crashes.

use emberbox_api::{CreateSandbox, ExecRequest};
use emberbox_core::{SandboxState, VmId};
use serde_json::json;

use crate::rig::{Rig, answer, eventually};

async fn state(rig: &Rig, id: &str) -> SandboxState {
    rig.client.get_sandbox(id).await.unwrap().state
}

async fn vm(rig: &Rig, id: &str) -> VmId {
    let records = rig.store.undestroyed_sandboxes().await.unwrap();
    let record = records.into_iter().find(|record| record.id.as_str() == id);
    record.unwrap().vm
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_destroys() {
    let rig = Rig::new().await;
    let create = |timeout_sec, always_on| CreateSandbox {
        timeout_sec: Some(timeout_sec),
        always_on: Some(always_on),
        ..CreateSandbox::default()
    };
    let long = rig
        .client
        .create_sandbox(&create(600, false))
        .await
        .unwrap();
    let forever = rig.client.create_sandbox(&create(1, true)).await.unwrap();
    let short = rig.client.create_sandbox(&create(1, false)).await.unwrap();
    assert!(short.timeout_remaining_ms.unwrap() <= 1000);
    assert_eq!(forever.timeout_remaining_ms, None);
    let id = short.id.as_str();
    eventually("the end of its time", || async {
        state(&rig, id).await == SandboxState::Destroyed
    })
    .await;
    let gone = rig.client.get_sandbox(id).await.unwrap();
    let lived = gone
        .destroyed_at
        .unwrap()
        .0
        .duration_since(gone.started_at.unwrap().0);
    assert!(lived.as_millis() >= 1000, "{lived:?}");
    for id in [long.id.as_str(), forever.id.as_str()] {
        assert_eq!(state(&rig, id).await, SandboxState::Running);
    }
    assert_eq!(rig.fleet.running().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_that_passed_while_the_server_was_down_counts() {
    let rig = Rig::new().await;
    let request = CreateSandbox {
        timeout_sec: Some(1),
        ..CreateSandbox::default()
    };
    let sandbox = rig.client.create_sandbox(&request).await.unwrap();
    let rig = rig.crash_and_restart().await;
    eventually("the end of its time", || async {
        state(&rig, sandbox.id.as_str()).await == SandboxState::Destroyed
    })
    .await;
    assert!(rig.fleet.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_dies_is_an_error_that_tells_no_internals() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    rig.fleet.kill(&vm(&rig, id).await).await;
    eventually("the error", || async {
        state(&rig, id).await == SandboxState::Error
    })
    .await;
    let dead = rig.client.get_sandbox(id).await.unwrap();
    assert_eq!(
        dead.error_message.as_deref(),
        Some("VM terminated unexpectedly")
    );
    assert!(!dead.ready);
    let exec = rig.request("POST", &format!("/sandboxes/{id}/exec"));
    let (status, code, _) = answer(exec.json(&json!({"command": "true"}))).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    let gone = rig.client.destroy_sandbox(id).await.unwrap();
    assert_eq!(
        (gone.state, gone.total_runtime_sec),
        (SandboxState::Destroyed, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn running_sandboxes_survive_a_crash_and_lost_ones_say_so() {
    let rig = Rig::new().await;
    let kept = rig.sandbox().await;
    let lost = rig.sandbox().await;
    let lost_vm = vm(&rig, lost.id.as_str()).await;
    rig.fleet.lose(&lost_vm);
    let rig = rig.crash_and_restart().await;
    let still = rig.client.get_sandbox(kept.id.as_str()).await.unwrap();
    assert_eq!(
        (still.state, still.started_at),
        (SandboxState::Running, kept.started_at)
    );
    let request = ExecRequest {
        command: "echo here".to_owned(),
        cwd: Some("/".to_owned()),
        ..ExecRequest::default()
    };
    let output = rig.client.exec(kept.id.as_str(), &request).await.unwrap();
    assert_eq!(output.stdout, "here\n");
    let gone = rig.client.get_sandbox(lost.id.as_str()).await.unwrap();
    assert_eq!(gone.state, SandboxState::Error);
    assert!(gone.error_message.unwrap().contains("gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_was_cut_off_is_finished_with_a_new_vm() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let (_, _, body) = answer(rig.request("POST", "/sandboxes?wait=0")).await;
    let id = body["id"].as_str().unwrap().to_owned();
    let before = vm(&rig, &id).await;
    let rig = rig.crash_and_restart().await;
    assert_eq!(state(&rig, &id).await, SandboxState::Provisioning);
    rig.fleet.open.send_replace(true);
    eventually("the sandbox", || async {
        state(&rig, &id).await == SandboxState::Running
    })
    .await;
    let after = vm(&rig, &id).await;
    assert_ne!(before, after);
    assert_eq!(rig.fleet.running(), [after]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_was_cut_off_is_finished() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let tenant = &sandbox.tenant_id;
    // The intent is written, and then the server dies.
    rig.store
        .request_destroy(tenant, &sandbox.id)
        .await
        .unwrap();
    let rig = rig.crash_and_restart().await;
    eventually("its end", || async {
        state(&rig, sandbox.id.as_str()).await == SandboxState::Destroyed
    })
    .await;
    assert!(rig.fleet.running().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn vms_no_sandbox_wants_are_ended_at_start() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    // The fact was written, and then the server died before the VM had ended.
    rig.store.record_destroyed(&sandbox.id).await.unwrap();
    assert_eq!(rig.fleet.running().len(), 1);
    let rig = rig.crash_and_restart().await;
    assert!(rig.fleet.running().is_empty());
    assert_eq!(
        state(&rig, sandbox.id.as_str()).await,
        SandboxState::Destroyed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_during_create_leaves_a_whole_sandbox() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let call = tokio::spawn(rig.request("POST", "/sandboxes?wait=true").send());
    eventually("the intent", || async {
        rig.client.list_sandboxes(None).await.unwrap().len() == 1
    })
    .await;
    call.abort();
    rig.fleet.open.send_replace(true);
    eventually("the sandbox", || async {
        rig.client
            .list_sandboxes(Some("running"))
            .await
            .unwrap()
            .len()
            == 1
    })
    .await;
    assert_eq!(rig.fleet.running().len(), 1);
}
