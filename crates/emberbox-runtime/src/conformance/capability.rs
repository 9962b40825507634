//! Optional abilities: declared means it works, not declared means it says so.

use std::time::Duration;

use tokio::time::timeout;

use super::checkpoint::Scrap;
use super::{Fixture, Outcome, check, failed};
use crate::engine::{Capability, CheckpointFiles, EngineError};

/// How long a stopped guest is watched for not answering.
const SILENCE: Duration = Duration::from_millis(500);

/// Pause stops a guest and resume continues it.
pub(super) async fn what_is_declared_works(fixture: &Fixture) -> Outcome {
    let declared = fixture.engine.capabilities();
    if declared.has(Capability::Pause) {
        pause_and_resume(fixture).await?;
    }
    check(declared.has(Capability::Seed), || {
        "an engine without seeds is of no use".to_owned()
    })
}

/// What is not declared is refused by name, not ignored.
pub(super) async fn what_is_not_declared_says_so(fixture: &Fixture) -> Outcome {
    let declared = fixture.engine.capabilities();
    let guest = fixture.restored("undeclared").await?;
    if !declared.has(Capability::StandBy) {
        let spec = &guest.spec;
        let waits = fixture.engine.stand_by(&spec.place, &spec.slot).await;
        let refused = matches!(
            &waits,
            Err(EngineError::NotSupported {
                capability: Capability::StandBy,
                ..
            })
        );
        check(refused, || format!("StandBy: {waits:?}"))?;
    }
    let dir = Scrap::make(fixture)?;
    let files = CheckpointFiles::in_dir(&dir.0);
    let calls = [
        (Capability::Pause, guest.vm.pause().await),
        (Capability::Checkpoint, guest.vm.checkpoint(&files).await),
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
