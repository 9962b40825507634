use std::process::Command;

use super::*;

fn sleeper() -> std::process::Child {
    Command::new("sleep").arg("1000").spawn().unwrap()
}

#[tokio::test]
async fn a_process_is_found_until_it_ends() {
    let mut child = sleeper();
    let reference = ProcessRef::of(i32::try_from(child.id()).unwrap()).unwrap();
    let process = reference.open().unwrap().unwrap();
    process.kill().unwrap();
    assert_eq!(process.wait().await.as_deref(), Some("signal SIGKILL"));
    assert!(reference.open().unwrap().is_none());
    process.kill().unwrap();
    assert!(child.wait().is_err(), "it was reaped twice");
}

#[tokio::test]
async fn a_zombie_does_not_run() {
    let mut child = sleeper();
    let reference = ProcessRef::of(i32::try_from(child.id()).unwrap()).unwrap();
    child.kill().unwrap();
    // Not reaped: somebody else's child would look the same.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while reference.open().unwrap().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "it never ended");
        tokio::task::yield_now().await;
    }
    child.wait().unwrap();
}

#[tokio::test]
async fn another_process_with_its_number_is_not_taken_for_it() {
    let mut child = sleeper();
    let mut reference = ProcessRef::of(i32::try_from(child.id()).unwrap()).unwrap();
    reference.start_ticks -= 1;
    assert!(reference.open().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_user_in_use_is_found() {
    let own = rustix::process::getuid().as_raw();
    assert!(any_of(own).unwrap().is_some());
    // Nobody may be this one: it means no change to setuid(2) and its like.
    assert_eq!(any_of(u32::MAX).unwrap(), None);
    let status = |state, users| format!("Name:\tsh\nState:\t{state}\nUid:\t{users}\n");
    assert!(runs_as(&status("S (sleeping)", "0\t0\t7\t0"), 7));
    assert!(!runs_as(&status("S (sleeping)", "70\t70\t70\t70"), 7));
    assert!(!runs_as(&status("Z (zombie)", "7\t7\t7\t7"), 7));
}
