//! Exec and readiness.

use std::fs;

use emberbox_api::{CreateSandbox, ExecRequest};
use serde_json::json;

use crate::rig::{Rig, answer, eventually, marker};

pub(crate) fn command(text: &str) -> ExecRequest {
    ExecRequest {
        command: text.to_owned(),
        cwd: Some("/".to_owned()),
        ..ExecRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_codes_and_environment() {
    let rig = Rig::new().await;
    let request = CreateSandbox {
        env: Some([("FROM_CREATE".to_owned(), "yes".to_owned())].into()),
        ..CreateSandbox::default()
    };
    let sandbox = rig.client.create_sandbox(&request).await.unwrap();
    let id = sandbox.id.as_str();
    let run = |request: ExecRequest| {
        let client = rig.client.clone();
        async move { client.exec(id, &request).await.unwrap() }
    };
    let both = run(command("echo out; echo err >&2; exit 3")).await;
    assert_eq!(
        (both.stdout.as_str(), both.stderr.as_str(), both.exit_code),
        ("out\n", "err\n", 3)
    );
    assert!(!both.truncated && both.sandbox_id == sandbox.id);
    assert_eq!(run(command("kill -9 $$")).await.exit_code, 137);
    let request = ExecRequest {
        env: Some([("CALL".to_owned(), "1".to_owned())].into()),
        ..command("echo $FROM_CREATE $CALL $PWD")
    };
    assert_eq!(run(request).await.stdout, "yes 1 /\n");
    assert_eq!(run(command("echo $CALL")).await.stdout, "\n");
    assert_eq!(run(command(r"printf 'a\377b'")).await.stdout, "a\u{fffd}b");
    let long = run(command("head -c 9000000 /dev/zero | tr '\\0' x")).await;
    assert!(long.truncated && long.stdout.len() == 8 * 1024 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_kills_and_answers_504() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let pid_file = marker(&rig, "pid");
    let request = ExecRequest {
        timeout: Some(1),
        ..command(&format!("echo $$ > {}; sleep 60", pid_file.display()))
    };
    let body = serde_json::to_value(&request).unwrap();
    let path = format!("/sandboxes/{}/exec", sandbox.id);
    let (status, code, _) = answer(rig.request("POST", &path).json(&body)).await;
    assert_eq!((status, code.as_str()), (504, "EXEC_TIMEOUT"));
    let pid = fs::read_to_string(pid_file).unwrap();
    eventually("the end of the command", || async { !alive(&pid) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_command_along() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let pid_file = marker(&rig, "pid");
    let request = command(&format!("echo $$ > {}; sleep 60", pid_file.display()));
    let path = format!("/sandboxes/{}/exec", sandbox.id);
    let call = tokio::spawn(rig.request("POST", &path).json(&request).send());
    let written = || async { fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')) };
    eventually("the start of the command", written).await;
    call.abort();
    let pid = fs::read_to_string(&pid_file).unwrap();
    eventually("the end of the command", || async { !alive(&pid) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_commands_are_refused() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let path = format!("/sandboxes/{}/exec", sandbox.id);
    for (body, field) in [
        (json!({}), "command"),
        (json!({"command": 5}), "command"),
        (json!({"command": "true", "timeout": 301}), "timeout"),
        (json!({"command": "true", "cwd": "here"}), "cwd"),
        (
            json!({"command": "true", "working_dir": "/no/such/place"}),
            "working_dir",
        ),
        (json!({"command": "true", "env": {"A": null}}), "env.A"),
    ] {
        let (status, code, answer) = answer(rig.request("POST", &path).json(&body)).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
        assert_eq!(answer["error"]["details"][0]["field"], field, "{answer}");
    }
    let (status, code, _) = answer(rig.request("POST", &path).body("{\"command\"")).await;
    assert_eq!((status, code.as_str()), (400, "INVALID_JSON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_provisioning_work_is_refused_and_worth_a_retry() {
    let rig = Rig::new().await;
    rig.fleet.open.send_replace(false);
    let (_, _, body) = answer(rig.request("POST", "/sandboxes?wait=0")).await;
    let id = body["id"].as_str().unwrap();
    let exec = rig.request("POST", &format!("/sandboxes/{id}/exec"));
    let (status, code, body) = answer(exec.json(&json!({"command": "true"}))).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    assert_eq!(body["error"]["retryable"], true);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("provisioning")
    );
    let upload = rig.request("POST", &format!("/sandboxes/{id}/files"));
    let (status, code, _) = answer(upload.json(&json!({"path": "/x", "content": ""}))).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));

    let readiness = rig.client.readiness(id).await.unwrap();
    assert!(!readiness.ready);
    let stream = rig.request("GET", &format!("/sandboxes/{id}/readiness/stream"));
    let mut stream = stream.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let opening = stream.chunk().await.unwrap().unwrap();
    assert!(opening.starts_with(b":"), "{opening:?}");
    rig.fleet.open.send_replace(true);
    let rest = stream.text().await.unwrap();
    assert!(
        rest.contains("event: ready\n") && rest.contains("\"ready_at\":\"2"),
        "{rest}"
    );
    assert!(rest.ends_with("\n\n"), "{rest:?}");
    let readiness = rig.client.readiness(id).await.unwrap();
    assert!(readiness.ready && readiness.ready_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_sandbox_that_will_never_be_ready_ends_at_once() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    rig.client
        .destroy_sandbox(sandbox.id.as_str())
        .await
        .unwrap();
    let path = format!("/sandboxes/{}/readiness/stream", sandbox.id);
    let text = rig
        .request("GET", &path)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        text.contains("event: timeout\n") && text.contains("destroyed"),
        "{text}"
    );
}

pub(crate) fn alive(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => !stat.contains(") Z "),
        Err(_) => false,
    }
}
