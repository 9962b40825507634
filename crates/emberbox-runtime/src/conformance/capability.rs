//! Optional abilities: declared means it works, not declared means it says so.

use std::time::Duration;

use tokio::time::timeout;

use super::{Failure, Fixture, Outcome, check, failed};
use crate::engine::{Capability, EngineError, SnapshotFiles};

/// How long a stopped guest is watched for not answering.
const SILENCE: Duration = Duration::from_millis(500);

/// Pause stops a guest and resume continues it; a snapshot brings its memory
/// and running processes back.
pub(super) async fn what_is_declared_works(fixture: &Fixture) -> Outcome {
    let declared = fixture.engine.capabilities();
    if declared.has(Capability::Pause) {
        pause_and_resume(fixture).await?;
    }
    if declared.has(Capability::Snapshot) {
        snapshot_and_restore(fixture).await?;
    }
    check(declared.has(Capability::Seed), || {
        "an engine without seeds is of no use".to_owned()
    })
}

/// What is not declared is refused by name, not ignored.
pub(super) async fn what_is_not_declared_says_so(fixture: &Fixture) -> Outcome {
    let declared = fixture.engine.capabilities();
    let guest = fixture.restored("undeclared").await?;
    let files = in_dir(fixture, "undeclared");
    let calls = [
        (Capability::Pause, guest.vm.pause().await),
        (Capability::Snapshot, guest.vm.snapshot(&files).await),
        (
            Capability::IncrementalSnapshot,
            guest.vm.snapshot_changes(&files, &files).await,
        ),
    ];
    for (capability, outcome) in calls {
        let refused = matches!(
            &outcome,
            Err(EngineError::NotSupported { capability: named, .. }) if *named == capability
        );
        check(refused != declared.has(capability), || {
            format!("{capability:?}: {outcome:?}")
        })?;
    }
    for file in [&files.memory, &files.state] {
        // Written only by an engine that declares snapshots.
        let _ = std::fs::remove_file(file);
    }
    fixture.end(guest).await
}

async fn pause_and_resume(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("paused").await?;
    guest.vm.pause().await.map_err(failed)?;
    guest.vm.pause().await.map_err(failed)?;
    let asked = timeout(SILENCE, guest.client.ping()).await;
    check(asked.is_err(), || "a paused guest answered".to_owned())?;
    guest.vm.resume().await.map_err(failed)?;
    guest.vm.resume().await.map_err(failed)?;
    guest.client.ping().await.map_err(failed)?;
    fixture.end(guest).await
}

async fn snapshot_and_restore(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("snapshot").await?;
    guest
        .say("echo before > /dev/shm/memory; echo before > /root/disk")
        .await?;
    guest
        .say("nohup sleep 1000 > /dev/null 2>&1 & echo $! > /root/pid")
        .await?;
    guest.vm.pause().await.map_err(failed)?;
    let files = in_dir(fixture, "snapshot");
    guest.vm.snapshot(&files).await.map_err(failed)?;
    let mut spec = fixture.plan().await?;
    crate::disk::clone(&guest.spec.scratch, &spec.scratch).map_err(failed)?;
    guest.vm.resume().await.map_err(failed)?;
    guest.say("echo after > /dev/shm/memory").await?;
    let token = guest.token.clone();
    fixture.end(guest).await?;

    let vm = fixture
        .engine
        .restore(&spec, &files)
        .await
        .map_err(failed)?;
    let client = emberbox_guest::client::GuestClient::new(
        crate::net::Dialer::new(spec.slot.clone()),
        token.clone(),
    );
    super::answers(&*vm, &client, super::RESTORED).await?;
    spec.shape = super::SHAPE;
    let back = super::Guest {
        spec,
        vm,
        client,
        token,
    };
    let said = back.say("cat /dev/shm/memory /root/disk").await?;
    check(said == "before\nbefore", || {
        format!("the restored guest reads {said:?}")
    })?;
    back.say("kill -0 $(cat /root/pid)")
        .await
        .map_err(|_| Failure::new("the process did not come back"))?;
    for file in [&files.memory, &files.state] {
        // An engine may keep memory in the state file.
        let _ = std::fs::remove_file(file);
    }
    fixture.end(back).await
}

fn in_dir(fixture: &Fixture, name: &str) -> SnapshotFiles {
    SnapshotFiles {
        memory: fixture.dir.join(format!("{name}.memory")),
        state: fixture.dir.join(format!("{name}.state")),
    }
}
