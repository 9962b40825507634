//! Restores of one seed: nothing of one is in another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Failure, Fixture, Outcome, check, differ, failed};

/// What two guests must not have in common, and how to see it.
const SECRETS: [(&str, &str); 5] = [
    (
        "/dev/urandom bytes",
        "head -c 32 /dev/urandom | od -An -tx1",
    ),
    ("UUID", "cat /proc/sys/kernel/random/uuid"),
    (
        "Python random number",
        "python3 -c 'import random; print(random.random())'",
    ),
    ("machine-id", "cat /etc/machine-id"),
    ("host name", "hostname"),
];

/// How far a restored guest's clock may be off, in seconds: what passes
/// between the claim and the reading on a loaded machine.
const CLOCK_SKEW: f64 = 5.0;

/// Entropy, identity, memory and disk of two restores differ and stay apart.
pub(super) async fn two_restores_are_independent(fixture: &Fixture) -> Outcome {
    let (one, two) = (
        fixture.restored("one").await?,
        fixture.restored("two").await?,
    );
    for (what, command) in SECRETS {
        differ(what, &one.say(command).await?, &two.say(command).await?)?;
    }
    differ("token", &one.token, &two.token)?;
    differ("boot memory", &one.vm.pid(), &two.vm.pid())?;

    one.say("echo mine > /root/file && echo mine > /dev/shm/memory")
        .await?;
    two.refuses("cat /root/file").await?;
    two.refuses("cat /dev/shm/memory").await?;
    two.say("echo theirs > /root/file").await?;
    let kept = one.say("cat /root/file /dev/shm/memory").await?;
    check(kept == "mine\nmine", || {
        format!("the first guest now reads {kept:?}")
    })?;

    // One guest's token opens no other.
    let foreign = emberbox_guest::client::GuestClient::new(
        crate::net::Dialer::new(two.spec.slot.clone()),
        one.token.clone(),
    );
    check(foreign.stat("/").await.is_err(), || {
        "a foreign token was accepted".to_owned()
    })?;
    fixture.end(one).await?;
    fixture.end(two).await
}

/// The wall clock is the host's, though the seed is older.
pub(super) async fn a_restored_guest_has_the_right_clock(fixture: &Fixture) -> Outcome {
    fixture.seed().await?;
    let guest = fixture.restored("clock").await?;
    let said = guest.say("date +%s.%N").await?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let guest_time: f64 = said
        .parse()
        .map_err(|_| Failure(format!("date said {said:?}")))?;
    let skew = now.as_secs_f64() - guest_time;
    check(skew.abs() < CLOCK_SKEW, || {
        format!("the clock is off by {skew:.1} s")
    })?;
    fixture.end(guest).await
}

/// A seed is taken before there is anything to keep secret.
pub(super) async fn a_seed_holds_no_identity(fixture: &Fixture) -> Outcome {
    let (spec, vm, client) = fixture.unclaimed().await?;
    let pong = client.ping().await.map_err(failed)?;
    check(!pong.claimed, || "the seed was claimed".to_owned())?;
    vm.stop().await.map_err(failed)?;
    fixture.remove(&spec).await
}

/// However many VMs write to their memory, the seed's file stays the same.
pub(super) async fn a_seed_cannot_be_written_by_its_vms(fixture: &Fixture) -> Outcome {
    let seed = fixture.seed().await?.clone();
    let before = digest(&seed.snapshot.memory)?;
    let guest = fixture.restored("writer").await?;
    guest
        .say("head -c 64M /dev/urandom > /dev/shm/noise")
        .await?;
    check(digest(&seed.snapshot.memory)? == before, || {
        "the seed changed".to_owned()
    })?;
    fixture.end(guest).await
}

pub(super) fn digest(path: &std::path::Path) -> Result<u64, Failure> {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(&std::fs::read(path).map_err(failed)?);
    Ok(hasher.finish())
}
