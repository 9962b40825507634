//! VMMs that wait for what they are to restore.

use std::fs;

use emberbox_core::VmId;

use super::isolation::is_jailed;
use super::{Failure, Fixture, Outcome, RESTORED, check, failed};
use crate::engine::{Capability, VmPlace, VmSpec};

/// Starts one in a place of its own and the network of this VM; its process.
async fn stand_by(fixture: &Fixture, spec: &VmSpec) -> Result<(VmPlace, i32), Failure> {
    let id = VmId::generate();
    let dir = fixture.dir.join(id.as_str());
    fs::create_dir_all(&dir).map_err(failed)?;
    let place = VmPlace { id, dir };
    let waits = fixture.engine.stand_by(&place, &spec.slot).await;
    waits.map_err(failed)?;
    match fixture.cgroups.processes(&place.id)[..] {
        [pid] => Ok((place, pid)),
        ref other => Err(Failure::new(format!("{other:?} wait"))),
    }
}

fn nothing_is_left(fixture: &Fixture, place: &VmPlace) -> Outcome {
    check(!fixture.cgroups.exists(&place.id), || {
        "the cgroup of what waited is left".to_owned()
    })?;
    let left: Vec<_> = fs::read_dir(&place.dir)
        .map_err(failed)?
        .flatten()
        .map(|entry| entry.file_name())
        // Of the log of a VMM that has ended its server makes use.
        .filter(|name| name != crate::vmm::LOG_FILE)
        .collect();
    check(left.is_empty(), || format!("{left:?} is left"))?;
    fs::remove_dir_all(&place.dir).map_err(failed)
}

/// The process that waited is the VM's, as confined as any other, and there is
/// nothing where it waited.
pub(super) async fn becomes_the_vm_that_is_restored(fixture: &Fixture) -> Outcome {
    if !fixture.engine.capabilities().has(Capability::StandBy) {
        return Ok(());
    }
    fixture.seed().await?;
    let spec = fixture.plan().await?;
    let (place, waited) = stand_by(fixture, &spec).await?;
    let vm = fixture.restore_as(&spec).await?;
    check(vm.pid() == waited, || {
        format!("{} was started beside {waited}", vm.pid())
    })?;
    nothing_is_left(fixture, &place)?;
    let guest = fixture.claim(spec, vm, "stood-by", RESTORED).await?;
    is_jailed(&guest)?;
    guest
        .say("echo written > /root/file && sync && cat /root/file")
        .await?;
    let place = &guest.spec.place;
    let found = fixture.again.adopt(place).await.map_err(failed)?;
    check(found.is_some_and(|found| found.pid() == waited), || {
        "it cannot be adopted".to_owned()
    })?;
    fixture.end(guest).await
}

/// One that was killed makes the next restore no worse, and one that is reaped
/// leaves nothing.
pub(super) async fn ends_when_nobody_wants_it(fixture: &Fixture) -> Outcome {
    if !fixture.engine.capabilities().has(Capability::StandBy) {
        return Ok(());
    }
    fixture.seed().await?;
    let spec = fixture.plan().await?;
    let (reaped, _) = stand_by(fixture, &spec).await?;
    fixture.engine.reap(&reaped).await.map_err(failed)?;
    nothing_is_left(fixture, &reaped)?;

    let (killed, pid) = stand_by(fixture, &spec).await?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| Failure::new("no process"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(failed)?;
    let vm = fixture.restore_as(&spec).await?;
    nothing_is_left(fixture, &killed)?;
    let guest = fixture.claim(spec, vm, "after-all", RESTORED).await?;
    fixture.end(guest).await
}
