use std::time::Duration;

use emberbox_guest::{App, ExecSpec};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::testing::PATIENCE;
use crate::{Machine, System};

fn command(line: &str) -> ExecSpec {
    ExecSpec {
        command: line.to_owned(),
        cwd: "/".to_owned(),
        timeout_ms: 5000,
        ..ExecSpec::default()
    }
}

/// Starts an app; the text of the error if there is one.
async fn start(line: &str, ready: Option<&str>, patience: Duration) -> Result<(), String> {
    let root = tempfile::TempDir::new().unwrap();
    let agent = Agent::new(System::new(root.path(), Machine::Shared).unwrap());
    let app = App {
        start: ExecSpec {
            timeout_ms: 0,
            ..command(line)
        },
        ready: ready.map(command),
        patience_ms: u64::try_from(patience.as_millis()).unwrap(),
    };
    let started = timeout(PATIENCE, super::start(&agent, app)).await;
    started.unwrap().map_err(|error| error.message)
}

#[tokio::test]
async fn an_app_is_waited_for() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("up").display().to_string();
    let app = format!("sleep 0.3; touch {file}; sleep 5");
    let ready = format!("test -e {file}");
    start(&app, Some(&ready), PATIENCE).await.unwrap();
    // It may start another and be done.
    start("true", Some(&ready), PATIENCE).await.unwrap();
    start("true", None, Duration::from_millis(300))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_app_that_does_not_get_ready_says_its_last_words() {
    let moment = Duration::from_millis(600);
    let error = start("echo too late; sleep 5", Some("false"), moment).await;
    let error = error.unwrap_err();
    assert!(error.contains("not ready within"), "{error}");
    assert!(error.ends_with("too late"), "{error}");
    for ready in [Some("false"), None] {
        let error = start("echo cannot >&2; exit 3", ready, PATIENCE / 10).await;
        let error = error.unwrap_err();
        assert!(
            error.contains("Code(3)") && error.ends_with("cannot"),
            "{error}"
        );
    }
    // A try that hangs ends with its time.
    let error = start("sleep 5", Some("sleep 60"), moment).await;
    assert!(error.unwrap_err().contains("not ready within"));
}
