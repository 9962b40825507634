//! A VM's life: it comes up, is found again, and ends without a trace.

use std::time::Duration;

use emberbox_guest::client::GuestClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Failure, Fixture, Outcome, check, ended_within, failed};
use crate::engine::{BootPurpose, EngineError, ExitReason};
use crate::net::Dialer;

/// How long a VM that was told to end may take.
const END: Duration = Duration::from_secs(60);

/// A cold boot comes up, takes its identity and runs commands.
pub(super) async fn boots_and_answers(fixture: &Fixture) -> Outcome {
    let guest = fixture.booted("cold").await?;
    let said = guest
        .say("echo $((6 * 7)) on $(hostname) as $SANDBOX_NAME")
        .await?;
    check(said == "42 on cold as cold", || format!("it said {said:?}"))?;
    let memory = guest.vm.memory_use().await.map_err(failed)?;
    check(memory.pss > 0, || "it uses no memory".to_owned())?;
    fixture.end(guest).await
}

/// A second start of a running VM is refused and changes nothing.
pub(super) async fn starts_once(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("once").await?;
    let again = fixture.engine.boot(&guest.spec, BootPurpose::Run).await;
    check(matches!(again, Err(EngineError::AlreadyRunning(_))), || {
        format!("a second start gave {:?}", again.map(|vm| vm.pid()))
    })?;
    let said = guest.say("echo still here").await?;
    check(said == "still here", || format!("it said {said:?}"))?;
    fixture.end(guest).await
}

/// Stop may be repeated, and so may reap, also of what never was.
pub(super) async fn stops_idempotently(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("stop").await?;
    guest.vm.stop().await.map_err(failed)?;
    guest.vm.stop().await.map_err(failed)?;
    let reason = guest.vm.wait().await;
    check(reason == ExitReason::Stopped, || {
        format!("the reason is {reason:?}")
    })?;
    let paused = guest.vm.pause().await;
    check(matches!(paused, Err(EngineError::NotRunning(_))), || {
        format!("pause: {paused:?}")
    })?;
    fixture
        .engine
        .reap(&guest.spec.place)
        .await
        .map_err(failed)?;
    fixture.remove(&guest.spec).await?;
    let never = fixture.plan().await?;
    fixture.remove(&never).await
}

/// A VMM that is killed from outside while its guest boots.
pub(super) async fn killed_while_booting_leaves_nothing(fixture: &Fixture) -> Outcome {
    let spec = fixture.plan().await?;
    (fixture.make_scratch)(&spec.scratch, spec.shape.disk_mib).map_err(failed)?;
    let vm = fixture
        .engine
        .boot(&spec, BootPurpose::Run)
        .await
        .map_err(failed)?;
    kill(Pid::from_raw(vm.pid()), Signal::SIGKILL).map_err(failed)?;
    let reason = ended_within(&*vm, END).await?;
    check(matches!(reason, ExitReason::VmmDied { .. }), || {
        format!("the reason is {reason:?}")
    })?;
    fixture.remove(&spec).await
}

/// A caller that goes away at any stage of a restore: reap finds the rest.
pub(super) async fn abandoned_at_each_stage_leaves_nothing(fixture: &Fixture) -> Outcome {
    let seed = fixture.seed().await?.clone();
    for stage_ms in [0, 1, 2, 4, 8, 15, 25, 40, 60, 90] {
        let spec = fixture.plan().await?;
        crate::disk::clone(&seed.scratch, &spec.scratch).map_err(failed)?;
        let started = async {
            let vm = fixture
                .engine
                .restore(&spec, &seed.snapshot)
                .await
                .map_err(failed)?;
            let client = GuestClient::new(
                Dialer::new(spec.slot.clone()),
                emberbox_guest::Token::UNCLAIMED,
            );
            let deadline = tokio::time::Instant::now() + END;
            client.wait_ready(deadline).await.map_err(failed)?;
            Ok::<_, Failure>(vm)
        };
        // Either outcome is fine: what counts is what is left.
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_millis(stage_ms), started).await
        {
            return Err(error);
        }
        fixture.remove(&spec).await?;
    }
    Ok(())
}

/// A start that cannot work says why and leaves nothing.
pub(super) async fn a_failed_start_leaves_nothing(fixture: &Fixture) -> Outcome {
    let spec = fixture.plan().await?;
    // No scratch disk was made.
    let started = fixture.engine.boot(&spec, BootPurpose::Run).await;
    check(started.is_err(), || {
        "it started without its disk".to_owned()
    })?;
    let spec_again = spec.clone();
    fixture.remove(&spec).await?;

    let mut damaged = fixture.seed().await?.snapshot.clone();
    std::fs::create_dir_all(&spec_again.place.dir).map_err(failed)?;
    damaged.state = spec_again.place.dir.join("damaged");
    std::fs::write(&damaged.state, b"this is not a device state").map_err(failed)?;
    let spec = fixture.plan().await?;
    (fixture.make_scratch)(&spec.scratch, spec.shape.disk_mib).map_err(failed)?;
    // An engine may notice at once or only when it reads the state.
    if let Ok(vm) = fixture.engine.restore(&spec, &damaged).await {
        let reason = ended_within(&*vm, END).await?;
        check(matches!(reason, ExitReason::VmmDied { .. }), || {
            format!("it ended: {reason:?}")
        })?;
    }
    std::fs::remove_dir_all(&spec_again.place.dir).map_err(failed)?;
    fixture.remove(&spec).await
}

/// Another engine instance, as after a restart of the host's process, finds
/// the VM, hears of its end, and can end it.
pub(super) async fn is_adopted_by_another_engine(fixture: &Fixture) -> Outcome {
    fixture.seed().await?;
    let (spec, token, pid) = in_a_process_that_dies(|| async {
        let guest = fixture.restored("adopted").await?;
        guest.say("echo kept > /root/file").await?;
        Ok((guest.spec, guest.token, guest.vm.pid()))
    })?;
    let adopted = fixture.again.adopt(&spec.place).await.map_err(failed)?;
    let adopted = adopted.ok_or_else(|| Failure::new("the running VM was not found"))?;
    check(adopted.pid() == pid, || {
        "another process was adopted".to_owned()
    })?;
    let client = GuestClient::new(Dialer::new(spec.slot.clone()), token);
    let stat = client.stat("/root/file").await.map_err(failed)?;
    check(stat.size == 5, || {
        format!("the file has {} bytes", stat.size)
    })?;
    adopted.stop().await.map_err(failed)?;
    ended_within(&*adopted, END).await?;
    let again = fixture.again.adopt(&spec.place).await.map_err(failed)?;
    check(again.is_none(), || {
        "a VM that has ended was adopted".to_owned()
    })?;
    fixture.remove(&spec).await
}

/// Runs `work` on a runtime of its own that ends at once, with all its tasks
/// and sockets, as a killed server does.
pub(super) fn in_a_process_that_dies<T, F>(work: impl FnOnce() -> F + Send) -> Result<T, Failure>
where
    T: Send,
    F: Future<Output = Result<T, Failure>>,
{
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.map_err(failed)?.block_on(work())
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|_panic| Err(Failure::new("the other process panicked")))
    })
}

/// A power-off and a panic of the guest are told apart.
pub(super) async fn tells_why_it_ended(fixture: &Fixture) -> Outcome {
    let ways = [
        ("echo o > /proc/sysrq-trigger", ExitReason::GuestShutdown),
        ("echo c > /proc/sysrq-trigger", ExitReason::GuestPanic),
    ];
    for (command, expected) in ways {
        let guest = fixture.restored("ends").await?;
        // The guest goes down under the command: no answer is an answer.
        let under_it = async {
            tokio::select! {
                _ = guest.run(command) => {}
                _ = guest.vm.wait() => {}
            }
        };
        let (reason, ()) = tokio::join!(ended_within(&*guest.vm, END), under_it);
        let reason = reason?;
        check(reason == expected, || {
            format!("`{command}` ended as {reason:?}")
        })?;
        fixture.remove(&guest.spec).await?;
    }
    Ok(())
}
