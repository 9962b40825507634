//! Checkpoints of running VMs: what was so at that moment is so again, for
//! every VM restored from it and for none but it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use emberbox_guest::client::GuestClient;
use emberbox_guest::{GuestErrorCode, Identity, NewName, Revival, Token};
use tokio::time::timeout;

use super::life::in_a_process_that_dies;
use super::{Failure, Fixture, Guest, Outcome, RESTORED, answers, check, differ, failed};
use crate::engine::{Capability, CheckpointFiles, Vm};
use crate::net::Dialer;

/// How long a stopped guest is watched for not answering.
const SILENCE: Duration = Duration::from_millis(500);

/// How far a clock may be off, in seconds: what passes between setting and
/// reading it on a loaded machine.
const CLOCK_SKEW: f64 = 5.0;

/// A process that counts in memory, and what it left on the disk.
const COUNTER: &str = r#"
cat > /root/counter.py <<'END'
import time
count = 0
while True:
    count += 1
    with open("/dev/shm/count.new", "w") as file: file.write(str(count))
    import os; os.replace("/dev/shm/count.new", "/dev/shm/count")
    time.sleep(0.01)
END
nohup python3 /root/counter.py > /dev/null 2>&1 &
echo $! > /root/pid
until [ -s /dev/shm/count ]; do sleep 0.01; done
echo before > /root/disk
echo before > /dev/shm/memory
"#;

/// Waits until the counter is past a number; says where it is.
fn counts_on(from: u64) -> String {
    format!("until [ $(cat /dev/shm/count) -gt {from} ]; do sleep 0.01; done; cat /dev/shm/count")
}

/// Files of one moment of one VM; removed when dropped.
struct Checkpoint {
    _dir: Scrap,
    files: CheckpointFiles,
    scratch: PathBuf,
    token: Token,
}

/// A directory that goes with its owner.
pub(super) struct Scrap(pub(super) PathBuf);

impl Scrap {
    /// A new one in the fixture's.
    pub(super) fn make(fixture: &Fixture) -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = fixture.dir.join(format!("scrap-{number}"));
        std::fs::create_dir(&dir).map_err(failed)?;
        Ok(Self(dir))
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // The fixture's directory goes in the end with what is in it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes a checkpoint of a guest, which goes on.
async fn take(fixture: &Fixture, guest: &Guest) -> Result<Checkpoint, Failure> {
    let dir = Scrap::make(fixture)?;
    let files = CheckpointFiles::in_dir(&dir.0);
    let scratch = dir.0.join("scratch.ext4");
    guest.vm.pause().await.map_err(failed)?;
    guest.vm.checkpoint(&files).await.map_err(failed)?;
    crate::disk::clone(&guest.spec.scratch, &scratch).map_err(failed)?;
    guest.vm.resume().await.map_err(failed)?;
    let token = guest.token.clone();
    Ok(Checkpoint {
        _dir: dir,
        files,
        scratch,
        token,
    })
}

/// A VM restored from a checkpoint, still stopped.
async fn restore_stopped(fixture: &Fixture, from: &Checkpoint) -> Result<Guest, Failure> {
    let spec = fixture.plan().await?;
    crate::disk::clone(&from.scratch, &spec.scratch).map_err(failed)?;
    let vm = fixture.engine.restore_checkpoint(&spec, &from.files).await;
    let vm: Arc<dyn Vm> = vm.map_err(failed)?;
    let token = from.token.clone();
    let client = GuestClient::new(Dialer::new(Arc::clone(&spec.slot)), token.clone());
    Ok(Guest {
        spec,
        vm,
        client,
        token,
    })
}

/// A VM restored from a checkpoint that answers with its old identity.
async fn restore(fixture: &Fixture, from: &Checkpoint) -> Result<Guest, Failure> {
    let guest = restore_stopped(fixture, from).await?;
    guest.vm.resume().await.map_err(failed)?;
    answers(&*guest.vm, &guest.client, RESTORED).await?;
    Ok(guest)
}

fn declared(fixture: &Fixture) -> bool {
    fixture.engine.capabilities().has(Capability::Checkpoint)
}

async fn count(guest: &Guest) -> Result<u64, Failure> {
    let said = guest.say("cat /dev/shm/count").await?;
    said.parse()
        .map_err(|_| Failure(format!("the counter says {said:?}")))
}

async fn is_as_it_was(guest: &Guest, counted: u64) -> Outcome {
    let said = guest.say("cat /dev/shm/memory /root/disk").await?;
    check(said == "before\nbefore", || {
        format!("the restored guest reads {said:?}")
    })?;
    guest
        .say("kill -0 $(cat /root/pid)")
        .await
        .map_err(|_| Failure::new("the process did not come back"))?;
    guest.say(&counts_on(counted)).await?;
    // Every block it would need of the disk is there, too.
    guest
        .say("echo 3 > /proc/sys/vm/drop_caches; cat /root/disk; python3 -c 'import json'")
        .await
        .map(drop)
}

/// Memory, disk and processes are as they were; the VM it was taken of goes on
/// meanwhile.
pub(super) async fn brings_back_memory_disk_and_processes(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("checkpoint").await?;
    guest.say(COUNTER).await?;
    let before = count(&guest).await?;
    let taken = take(fixture, &guest).await?;
    guest
        .say("echo after > /dev/shm/memory; echo after > /root/disk; sync")
        .await?;
    let far = before + 200;
    guest.say(&counts_on(far)).await?;
    fixture.end(guest).await?;

    let back = restore(fixture, &taken).await?;
    let now = count(&back).await?;
    check(now >= before && now < far, || {
        format!("it counted to {before}, then {far}, and came back at {now}")
    })?;
    is_as_it_was(&back, now).await?;
    fixture.end(back).await
}

/// A VM that came from no seed has no seed to lean on.
pub(super) async fn of_a_cold_boot_comes_back(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.booted("cold").await?;
    guest.say(COUNTER).await?;
    let taken = take(fixture, &guest).await?;
    let before = count(&guest).await?;
    fixture.end(guest).await?;
    let back = restore(fixture, &taken).await?;
    is_as_it_was(&back, before).await?;
    // And again, from what was restored.
    let again = take(fixture, &back).await?;
    fixture.end(back).await?;
    let back = restore(fixture, &again).await?;
    is_as_it_was(&back, before).await?;
    fixture.end(back).await
}

/// A checkpoint of a VM that was itself restored from one, taken by an engine
/// that only found it.
pub(super) async fn follows_a_checkpoint_and_another_engine(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("first").await?;
    guest.say(COUNTER).await?;
    let first = take(fixture, &guest).await?;
    fixture.end(guest).await?;
    let (spec, token) = in_a_process_that_dies(|| async {
        let guest = restore(fixture, &first).await?;
        guest.say("echo second > /dev/shm/second").await?;
        Ok((guest.spec, guest.token))
    })?;
    let adopted = fixture.again.adopt(&spec.place).await.map_err(failed)?;
    let vm = adopted.ok_or_else(|| Failure::new("the running VM was not found"))?;
    let client = GuestClient::new(Dialer::new(Arc::clone(&spec.slot)), token.clone());
    let guest = Guest {
        spec,
        vm,
        client,
        token,
    };
    let second = take(fixture, &guest).await?;
    let before = count(&guest).await?;
    fixture.end(guest).await?;
    let back = restore(fixture, &second).await?;
    is_as_it_was(&back, before.saturating_sub(1)).await?;
    let said = back.say("cat /dev/shm/second").await?;
    check(said == "second", || format!("it reads {said:?}"))?;
    fixture.end(back).await
}

/// What one VM writes to its memory and disk is in no other, nor in the files.
pub(super) async fn two_restores_are_independent(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("origin").await?;
    guest.say(COUNTER).await?;
    let taken = take(fixture, &guest).await?;
    fixture.end(guest).await?;
    let written = [&taken.files.memory, &taken.files.state, &taken.scratch];
    let before: Vec<_> = digests(&written)?;
    let (one, two) = (
        restore(fixture, &taken).await?,
        restore(fixture, &taken).await?,
    );
    one.say("echo mine > /dev/shm/memory; echo mine > /root/disk; sync")
        .await?;
    let said = two.say("cat /dev/shm/memory /root/disk").await?;
    check(said == "before\nbefore", || format!("it reads {said:?}"))?;
    check(digests(&written)? == before, || {
        "the checkpoint changed".to_owned()
    })?;
    fixture.end(one).await?;
    fixture.end(two).await
}

fn digests(files: &[&PathBuf]) -> Result<Vec<u64>, Failure> {
    files
        .iter()
        .map(|file| super::restore::digest(file))
        .collect()
}

/// Nothing runs before the caller says so.
pub(super) async fn stands_still_until_it_is_let_go(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("still").await?;
    let taken = take(fixture, &guest).await?;
    fixture.end(guest).await?;
    let back = restore_stopped(fixture, &taken).await?;
    let asked = timeout(SILENCE, back.client.ping()).await;
    check(asked.is_err(), || "it answered".to_owned())?;
    back.vm.resume().await.map_err(failed)?;
    answers(&*back.vm, &back.client, RESTORED).await?;
    fixture.end(back).await
}

/// Token, entropy, clock, name and environment of a new life.
pub(super) async fn a_new_life_has_its_own_identity(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("origin").await?;
    guest.say(COUNTER).await?;
    let machine_id = guest.say("cat /etc/machine-id").await?;
    let taken = take(fixture, &guest).await?;
    fixture.end(guest).await?;
    let same = revived(fixture, &taken, None).await?;
    let fork = revived(fixture, &taken, Some("fork")).await?;
    for command in [
        "head -c 32 /dev/urandom | od -An -tx1",
        "cat /proc/sys/kernel/random/uuid",
        "cat /etc/machine-id",
        "hostname",
        "echo $SANDBOX_NAME",
    ] {
        differ(
            command,
            &same.say(command).await?,
            &fork.say(command).await?,
        )?;
    }
    differ("token", &same.token, &fork.token)?;
    let kept = same.say("hostname; cat /etc/machine-id").await?;
    check(kept == format!("origin\n{machine_id}"), || {
        format!("it is now {kept:?}")
    })?;
    let named = fork
        .say("hostname; cat /etc/hostname; grep -c fork /etc/hosts")
        .await?;
    check(named == "fork\nfork\n1", || format!("it is now {named:?}"))?;
    for guest in [&same, &fork] {
        let said = guest.say("date +%s.%N").await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO).as_secs_f64();
        let skew = now - said.parse::<f64>().unwrap_or(0.0);
        check(skew.abs() < CLOCK_SKEW, || {
            format!("the clock is off by {skew:.1} s")
        })?;
        let counted = count(guest).await?;
        guest.say(&counts_on(counted)).await?;
        // The token of the life before opens nothing.
        let old = GuestClient::new(
            Dialer::new(Arc::clone(&guest.spec.slot)),
            taken.token.clone(),
        );
        let refused = old.stat("/").await;
        let unauthorized = matches!(
            &refused,
            Err(emberbox_guest::client::ClientError::Guest(error))
                if error.code == GuestErrorCode::Unauthorized
        );
        check(unauthorized, || format!("the old token: {refused:?}"))?;
    }
    fixture.end(same).await?;
    fixture.end(fork).await
}

/// A VM restored from a checkpoint that has begun a life of its own.
async fn revived(
    fixture: &Fixture,
    from: &Checkpoint,
    name: Option<&str>,
) -> Result<Guest, Failure> {
    let mut guest = restore(fixture, from).await?;
    let token = super::next_token();
    let Identity {
        machine_id,
        env,
        unix_time_ns,
        entropy,
        mtu,
        ..
    } = super::identity(name.unwrap_or("same"), token.clone(), guest.spec.slot.mtu());
    let revival = Revival {
        token: token.clone(),
        name: name.map(|hostname| NewName {
            hostname: hostname.to_owned(),
            machine_id,
        }),
        env,
        unix_time_ns,
        entropy,
        mtu,
    };
    guest.client.revive(revival).await.map_err(failed)?;
    guest.client = GuestClient::new(Dialer::new(Arc::clone(&guest.spec.slot)), token.clone());
    guest.token = token;
    Ok(guest)
}

/// A connection to the outside ends at once in the new life, one inside the
/// guest goes on.
pub(super) async fn old_connections_are_reset(fixture: &Fixture) -> Outcome {
    /// Talks to a server outside and to one inside; says how each goes on.
    const TALKER: &str = r#"
cat > /root/talker.py <<'END'
import socket, sys, threading, time
inside = socket.create_server(("127.0.0.1", 0))
def echo():
    peer, _ = inside.accept()
    while data := peer.recv(64): peer.sendall(data)
threading.Thread(target=echo, daemon=True).start()
near = socket.create_connection(inside.getsockname())
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
far.recv(64)
open("/root/connected", "w").close()
try:
    far.recv(64); ended = "closed"
except ConnectionError as error:
    ended = type(error).__name__
near.sendall(b"still"); answer = near.recv(64).decode()
with open("/root/said.new", "w") as file: file.write(f"{ended} {answer}")
import os; os.rename("/root/said.new", "/root/said")
END
"#;
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("talker").await?;
    let address = fixture.outside.silent_service;
    guest.say(TALKER).await?;
    guest
        .say(&format!(
            "nohup python3 /root/talker.py {} {} > /root/log 2>&1 & \
             until [ -e /root/connected ]; do sleep 0.01; done",
            address.ip(),
            address.port()
        ))
        .await?;
    let taken = take(fixture, &guest).await?;
    guest.refuses("cat /root/said").await?;
    fixture.end(guest).await?;
    let back = revived(fixture, &taken, None).await?;
    let said = back
        .say("for i in $(seq 500); do [ -e /root/said ] && break; sleep 0.01; done; cat /root/said")
        .await?;
    // Which one depends on whether a thread was blocked in it.
    let ways = ["ConnectionResetError", "BrokenPipeError", "closed"];
    let clean = said.strip_suffix(" still");
    check(clean.is_some_and(|way| ways.contains(&way)), || {
        format!("the connection went on as {said:?}")
    })?;
    fixture.end(back).await
}

/// Where there is no room, no file is left and the VM goes on.
pub(super) async fn a_failed_one_leaves_nothing(fixture: &Fixture) -> Outcome {
    if !declared(fixture) {
        return Ok(());
    }
    let guest = fixture.restored("full").await?;
    let small = SmallDisk::mount(&fixture.dir.join("small"))?;
    let files = CheckpointFiles::in_dir(&small.0);
    guest.vm.pause().await.map_err(failed)?;
    let written = guest.vm.checkpoint(&files).await;
    guest.vm.resume().await.map_err(failed)?;
    check(written.is_err(), || "it fitted nowhere".to_owned())?;
    let left = std::fs::read_dir(&small.0).map_err(failed)?.count();
    check(left == 0, || format!("{left} files are left"))?;
    let running = guest.vm.checkpoint(&files).await;
    check(running.is_err(), || "a running VM was written".to_owned())?;
    guest.say("echo alive").await?;
    fixture.end(guest).await
}

/// A file system with next to no room; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self, Failure> {
        use nix::mount::{MsFlags, mount};
        std::fs::create_dir_all(at).map_err(failed)?;
        let options = Some("size=256k");
        mount(Some("small"), at, Some("tmpfs"), MsFlags::empty(), options).map_err(failed)?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A suite whose disk stays mounted fails when its directory is removed.
        let _ = nix::mount::umount(&self.0);
        let _ = std::fs::remove_dir(&self.0);
    }
}
