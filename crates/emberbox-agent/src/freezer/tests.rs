use std::time::Duration;

use emberbox_guest::ExecSpec;
use tokio::time::timeout;

use super::*;
use crate::testing::{Guest, PATIENCE};

/// Longer than a command takes to start; nothing is to happen meanwhile.
const MOMENT: Duration = Duration::from_millis(200);

fn touch(path: &str) -> ExecSpec {
    ExecSpec {
        command: format!("touch {path}"),
        cwd: "/".into(),
        timeout_ms: 60_000,
        ..ExecSpec::default()
    }
}

#[tokio::test]
async fn no_command_starts_while_everything_is_held() {
    let guest = Guest::claimed().await;
    let path = guest.path("touched");
    guest.client.freeze(10).await.unwrap();
    let exec = guest.client.exec(touch(&path));
    let mut exec = std::pin::pin!(exec);
    assert!(timeout(MOMENT, &mut exec).await.is_err());
    assert!(!Path::new(&path).exists());
    // The agent itself is not held.
    guest.client.stat(&guest.path("")).await.unwrap();
    guest.client.thaw(11).await.unwrap();
    let call = timeout(PATIENCE, exec).await.unwrap().unwrap();
    call.collect(1 << 10).await.unwrap();
    assert!(Path::new(&path).exists());
}

#[tokio::test]
async fn a_call_that_comes_after_its_own_end_holds_nothing() {
    let guest = Guest::claimed().await;
    guest.client.thaw(20).await.unwrap();
    guest.client.thaw(5).await.unwrap();
    guest.client.freeze(20).await.unwrap();
    let path = guest.path("touched");
    let call = guest.client.exec(touch(&path)).await.unwrap();
    call.collect(1 << 10).await.unwrap();
    assert!(Path::new(&path).exists());
}

/// A directory that stands for the kernel's.
fn groups(names: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, freeze) in names {
        let group = dir.path().join(name);
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.freeze"), freeze).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        fs::write(group.join("cgroup.events"), "populated 0\nfrozen 1\n").unwrap();
    }
    dir
}

#[tokio::test]
async fn every_group_is_held_but_the_agents_and_what_the_user_holds() {
    let dir = groups(&[
        (OWN, "0\n"),
        (HELD, "0\n"),
        ("users", "0\n"),
        ("stopped", "1\n"),
    ]);
    let freezer = Freezer {
        groups: Some(dir.path().to_owned()),
        ..Freezer::new(Machine::Shared)
    };
    let set = |group: &str| {
        let text = fs::read_to_string(dir.path().join(group).join("cgroup.freeze"));
        text.unwrap().trim().to_owned()
    };
    for asked in [1, 2] {
        freezer.hold(asked).await.unwrap();
        assert_eq!(
            [OWN, HELD, "users", "stopped"].map(set),
            ["0", "1", "1", "1"]
        );
    }
    freezer.let_go(3).unwrap();
    freezer.let_go(4).unwrap();
    assert_eq!(
        [OWN, HELD, "users", "stopped"].map(set),
        ["0", "0", "0", "1"]
    );
    freezer.released().await;
}

#[tokio::test]
async fn new_processes_are_moved_and_nothing_of_the_agents() {
    let dir = groups(&[(OWN, "0"), (HELD, "0")]);
    let own = std::process::id();
    // The pretended kernel never takes a process out of a list.
    fs::write(
        dir.path().join(OWN).join("cgroup.procs"),
        format!("1\n{own}\n4711\n"),
    )
    .unwrap();
    let mut held = Vec::new();
    assert!(stop(dir.path(), &mut held).is_err());
    let moved = fs::read_to_string(dir.path().join(HELD).join("cgroup.procs")).unwrap();
    assert_eq!(moved, "4711");
}
