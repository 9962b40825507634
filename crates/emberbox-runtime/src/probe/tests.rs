use std::time::Instant;

use super::*;

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

async fn verdict(script: &str, deadline: Duration) -> KvmVerdict {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    speaks(command, deadline).await
}

#[tokio::test]
async fn a_vm_that_says_the_word_is_believed() {
    let verdict = verdict("echo booting; echo EMBERBOX-PROBE-OK; exec sleep 60", LONG).await;
    assert!(verdict.usable, "{}", verdict.reason);
}

#[tokio::test]
async fn a_vm_that_hangs_is_over_at_the_deadline() {
    let begun = Instant::now();
    let verdict = verdict("echo $$ >&2; echo Linux; exec sleep 60", SOON).await;
    assert!(!verdict.usable);
    assert!(begun.elapsed() < LONG);
    assert!(
        verdict.reason.contains("did not boot within 0 s"),
        "{}",
        verdict.reason
    );
}

#[tokio::test]
async fn a_vmm_that_dies_is_quoted() {
    let refused = "echo 'emulator: failed to initialize kvm' >&2; exit 1";
    let verdict = verdict(refused, LONG).await;
    assert!(!verdict.usable);
    assert!(
        verdict.reason.contains("failed to initialize kvm"),
        "{}",
        verdict.reason
    );
}

#[tokio::test]
async fn firecrackers_error_is_quoted_and_not_its_farewell() {
    let died = "echo '2026-01-01 [anonymous-instance:main:ERROR] Kvm error: no'; \
                echo 'Firecracker exiting with error. exit_code=1'; exit 1";
    let verdict = verdict(died, LONG).await;
    assert!(
        verdict.reason.contains("Kvm error: no"),
        "{}",
        verdict.reason
    );
}

#[test]
fn a_device_that_cannot_be_opened_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("kvm");
    let verdict = device_at(&missing).unwrap_err();
    assert!(
        verdict.reason.contains("load kvm_intel"),
        "{}",
        verdict.reason
    );
    // Nobody, root included, opens a directory for writing.
    let verdict = device_at(dir.path()).unwrap_err();
    assert!(!verdict.usable);
    assert_eq!(device_at(Path::new("/dev/null")), Ok(()));
}
