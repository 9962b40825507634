//! Snapshots on real VMs: taken, restored, refused, interrupted.
//!
//! Needs root and the guest images in `EMBERBOX_HOME` (`cargo xtask setup`).

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod snapshots {
    //! What the tests share, and the process that is killed.
    pub(crate) mod rig;
    pub(crate) mod victim;
}

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use emberbox_core::{SandboxId, Shape, SnapshotId, VmId};
use emberbox_guest::{ProcessSpec, TerminalSpec};
use emberbox_host::{AfterSnapshot, HostError, HostEvent, Keep};
use emberbox_runtime::jail::become_jail_if_asked;
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

use snapshots::rig::{COUNTER, Rig, SHAPE, SMALL, command, eventually, say};
use snapshots::victim::{self, Wanted};

/// The longest test makes several VMs; a loaded machine gets many times that.
const TEST: Duration = Duration::from_secs(600);

/// How far a clock may be off, in seconds: what passes between setting and
/// reading it on a loaded machine.
const CLOCK_SKEW: f64 = 5.0;

/// The terminal of the test that opens one.
const TERMINAL: u64 = 7;

macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$(trial(stringify!($test), || $test())),*]
    };
}

fn main() -> ExitCode {
    become_jail_if_asked();
    victim::run_if_asked();
    let mut arguments = Arguments::from_args();
    // The tests share two cores with the VMs they start.
    arguments.test_threads = Some(1);
    let missing = Rig::missing();
    let ignored = missing.is_some();
    if let (Some(missing), false) = (missing, arguments.list) {
        eprintln!("snapshot tests skipped: {missing}");
        if std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let trials: Vec<Trial> = trials![
        a_snapshot_brings_everything_back,
        forks_differ,
        fifty_forks_have_nothing_in_common,
        nothing_of_the_users_runs_before_a_new_life,
        a_pause_survives_a_new_server,
        terminals_and_processes_go_on,
        what_cannot_be_restored_says_why,
        a_full_disk_leaves_the_vm_running,
        a_guest_waits_for_room_and_goes_on,
        a_vm_that_ends_takes_its_snapshot_with_it,
        a_server_killed_meanwhile_leaves_no_half,
        a_server_killed_under_a_pause_leaves_one_of_both,
    ];
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(ignored));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial<F>(name: &str, test: fn() -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        let runtime = Runtime::new().expect("a runtime");
        let ended = runtime.block_on(async { tokio::time::timeout(TEST, test()).await });
        ended.map_err(|_elapsed| "it did not end".into())
    })
}

async fn a_snapshot_brings_everything_back() {
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    say(&rig.host, &vm, COUNTER).await;
    say(
        &rig.host,
        &vm,
        "echo before > /root/file; hostname > /root/name",
    )
    .await;
    let before = rig.count(&vm).await;
    let id = SnapshotId::generate();
    let taken = rig.host.snapshot(&vm, &id, AfterSnapshot::GoOn).await;
    let taken = taken.unwrap();
    assert!(taken.stopped_us > 0 && taken.size_bytes > 0, "{taken:?}");
    assert_eq!(rig.host.snapshots().unwrap(), from_ref(&id));
    // It goes on, and what it does now is not in the snapshot.
    let far = before + 1000;
    rig.counts_past(&vm, far).await;
    say(&rig.host, &vm, "echo after > /root/file; sync").await;
    rig.host.destroy(&vm).await.unwrap();

    let mut entropy = Vec::new();
    for keep in [Keep::Kept, Keep::Consumed] {
        let vm = rig.restore(&sandbox, &id, keep).await.unwrap();
        let count = rig.count(&vm).await;
        assert!((before..far).contains(&count), "{before} then {count}");
        rig.counts_past(&vm, count).await;
        let said = say(
            &rig.host,
            &vm,
            "cat /root/file; hostname | cmp - /root/name",
        )
        .await;
        assert_eq!(said, "before");
        let said = say(&rig.host, &vm, "date +%s.%N").await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let skew = now.as_secs_f64() - said.parse::<f64>().unwrap();
        assert!(skew.abs() < CLOCK_SKEW, "the clock is off by {skew} s");
        assert_eq!(say(&rig.host, &vm, "echo $GREETING").await, "hello");
        entropy.push(say(&rig.host, &vm, "head -c 32 /dev/urandom | od -An -tx1").await);
        entropy.push(say(&rig.host, &vm, "cat /proc/sys/kernel/random/uuid").await);
        rig.host.destroy(&vm).await.unwrap();
    }
    entropy.sort();
    entropy.dedup();
    assert_eq!(entropy.len(), 4, "two lives had the same randomness");
    rig.host.delete_snapshot(&id).await.unwrap();
    rig.host.delete_snapshot(&id).await.unwrap();
    assert!(rig.host.snapshots().unwrap().is_empty());
    rig.close().await;
}

async fn forks_differ() {
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    say(&rig.host, &vm, COUNTER).await;
    let id = SnapshotId::generate();
    rig.host
        .snapshot(&vm, &id, AfterSnapshot::GoOn)
        .await
        .unwrap();
    let mut all = vec![vm];
    for _ in 0..2 {
        let fork = SandboxId::generate();
        let vm = rig.restore(&fork, &id, Keep::Kept).await.unwrap();
        let name = say(&rig.host, &vm, "hostname").await;
        assert_eq!(name, fork.as_str().replace('_', "-"));
        all.push(vm);
    }
    for command in [
        "hostname",
        "cat /etc/hostname",
        "cat /etc/machine-id",
        "head -c 32 /dev/urandom | od -An -tx1",
        "cat /proc/sys/kernel/random/uuid",
    ] {
        let mut said = Vec::new();
        for vm in &all {
            said.push(say(&rig.host, vm, command).await);
        }
        said.sort();
        said.dedup();
        assert_eq!(said.len(), all.len(), "{command}: {said:?}");
    }
    // What one writes is in no other.
    say(&rig.host, &all[1], "echo mine > /root/mine; sync").await;
    say(&rig.host, &all[2], "! [ -e /root/mine ]").await;
    // A snapshot of a fork is one of the fork.
    let second = SnapshotId::generate();
    let of_fork = rig.host.snapshot(&all[1], &second, AfterSnapshot::GoOn);
    of_fork.await.unwrap();
    for vm in &all {
        rig.host.destroy(vm).await.unwrap();
    }
    let vm = rig.restore(&sandbox, &second, Keep::Kept).await.unwrap();
    assert_eq!(say(&rig.host, &vm, "cat /root/mine").await, "mine");
    rig.close().await;
}

/// Fifty lives of one memory, a few at a time.
async fn fifty_forks_have_nothing_in_common() {
    const FORKS: usize = 50;
    const WAVE: usize = 5;
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create_as(&sandbox, SMALL).await;
    say(
        &rig.host,
        &vm,
        "mkdir -p /var/lib/dbus; cp /etc/machine-id /var/lib/dbus/",
    )
    .await;
    // It waits for a line and draws once: in every fork the same process.
    let waiting = "mkfifo /root/go; (read line < /root/go; \
        head -c 16 /dev/urandom | od -An -tx1 > /root/drawn) > /dev/null 2>&1 &";
    say(&rig.host, &vm, waiting).await;
    let id = SnapshotId::generate();
    let taken = rig.host.snapshot(&vm, &id, AfterSnapshot::GoOn).await;
    taken.unwrap();
    let mut lives = vec![ids_of(&rig, &vm).await];
    rig.host.destroy(&vm).await.unwrap();
    for _wave in 0..FORKS / WAVE {
        let forks = (0..WAVE).map(async |_| {
            let fork = SandboxId::generate();
            let vm = rig.restore_as(&fork, &id, SMALL).await.unwrap();
            let ids = ids_of(&rig, &vm).await;
            assert_eq!(ids[0], fork.as_str().replace('_', "-"));
            assert_eq!(ids[1], ids[2], "D-Bus has another machine id");
            // That it answered says that its token is its own: it is made of
            // the VM's id, and the old one opens nothing more.
            rig.host.destroy(&vm).await.unwrap();
            ids
        });
        lives.extend(futures_util::future::join_all(forks).await);
    }
    assert_eq!(lives.len(), FORKS + 1);
    for (position, what) in IDS.iter().enumerate() {
        let mut all: Vec<_> = lives.iter().map(|ids| ids[position].clone()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), lives.len(), "{what}: {all:?}");
    }
    rig.close().await;
}

/// What no two lives may have in common.
const IDS: [&str; 6] = [
    "hostname",
    "cat /etc/machine-id",
    "cat /var/lib/dbus/machine-id",
    "head -c 16 /dev/urandom | od -An -tx1",
    "cat /proc/sys/kernel/random/uuid",
    "echo > /root/go; until [ -s /root/drawn ]; do sleep 0.01; done; cat /root/drawn",
];

async fn ids_of(rig: &Rig, vm: &VmId) -> Vec<String> {
    let said = say(&rig.host, vm, &IDS.join("; ")).await;
    let ids: Vec<_> = said.lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), IDS.len(), "{said}");
    ids
}

/// A process that runs in a snapshot draws nothing in a restore before its
/// randomness and its clock are new.
async fn nothing_of_the_users_runs_before_a_new_life() {
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    let drawing = format!("{DRAWING} > /dev/null 2>&1 &");
    say(&rig.host, &vm, &drawing).await;
    draws_since(&rig, &vm, 0).await;
    let id = SnapshotId::generate();
    let taken = rig.host.snapshot(&vm, &id, AfterSnapshot::GoOn).await;
    taken.unwrap();
    // It goes on with the right time.
    draws_since(&rig, &vm, now_ns()).await;
    rig.host.destroy(&vm).await.unwrap();

    let mut lives = Vec::new();
    for _ in 0..2 {
        let begun = now_ns();
        let vm = rig.restore(&sandbox, &id, Keep::Kept).await.unwrap();
        let new = draws_since(&rig, &vm, begun).await;
        let old = format!("awk '$1 < {begun}' /dev/shm/draws | wc -l");
        lives.push((say(&rig.host, &vm, &old).await, new));
        rig.host.destroy(&vm).await.unwrap();
    }
    // Whatever ran before the new life began would have drawn with the clock
    // of the old one, and not equally often in both.
    assert_eq!(lives[0].0, lives[1].0, "something ran before the new life");
    let equal = lives[1].1.intersection(&lives[0].1);
    assert_eq!(equal.count(), 0, "two lives drew the same");
    rig.close().await;
}

/// Draws as often as it can, and writes down when.
const DRAWING: &str = r#"python3 -c '
import os, time
file = open("/dev/shm/draws", "w")
while True:
    file.write(f"{time.time_ns()} {os.urandom(8).hex()}\n")
    file.flush()
    time.sleep(0.001)
'"#;

/// The first draws since a moment of the guest's clock, once there are enough
/// to compare.
async fn draws_since(rig: &Rig, vm: &VmId, since: u64) -> HashSet<String> {
    const ENOUGH: usize = 100;
    let command = format!(
        "cat /dev/shm/draws | awk '$1 >= {since} && length($2) == 16 {{print $2}}' | head -n {ENOUGH}"
    );
    let mut drawn = HashSet::new();
    eventually("a hundred draws", async || {
        let said = say(&rig.host, vm, &command).await;
        drawn = said.lines().map(str::to_owned).collect();
        drawn.len() == ENOUGH
    })
    .await;
    drawn
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

async fn a_pause_survives_a_new_server() {
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    say(&rig.host, &vm, COUNTER).await;
    let id = SnapshotId::generate();
    let before = rig.count(&vm).await;
    rig.host
        .snapshot(&vm, &id, AfterSnapshot::End)
        .await
        .unwrap();
    // Nothing of the VM is left but the snapshot.
    assert!(matches!(rig.host.guest(&vm), Err(HostError::NotRunning)));
    assert!(rig.host.running().is_empty());
    assert!(rig.vm_directories().is_empty());
    let other = SnapshotId::generate();
    let again = rig.host.snapshot(&vm, &other, AfterSnapshot::End);
    assert!(matches!(again.await, Err(HostError::NotRunning)));
    let rig = rig.reopen().await;
    assert_eq!(rig.host.snapshots().unwrap(), from_ref(&id));
    let vm = rig.restore(&sandbox, &id, Keep::Consumed).await.unwrap();
    let count = rig.count(&vm).await;
    assert!(
        count >= before && count < before + 1000,
        "{before}, {count}"
    );
    rig.counts_past(&vm, count).await;
    rig.host.delete_snapshot(&id).await.unwrap();
    // Its disk and memory are its own: all of it works without the snapshot.
    say(
        &rig.host,
        &vm,
        "echo 3 > /proc/sys/vm/drop_caches; ls -R /root",
    )
    .await;
    let next = SnapshotId::generate();
    let taken = rig.host.snapshot(&vm, &next, AfterSnapshot::GoOn).await;
    taken.unwrap();
    rig.close().await;
}

async fn terminals_and_processes_go_on() {
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    let guest = rig.host.guest(&vm).unwrap();
    let terminal = TerminalSpec {
        id: TERMINAL,
        shell: Some("/bin/bash --norc".to_owned()),
        cwd: "/root".to_owned(),
        ..TerminalSpec::default()
    };
    guest.open_terminal(terminal).await.unwrap();
    let (mut input, _output) = guest.attach_terminal(TERMINAL, None).await.unwrap();
    let typed = "kept=42; touch /root/typed\n";
    input.write(typed.into()).await.unwrap();
    eventually("the shell", async || {
        say(&rig.host, &vm, "ls /root").await.contains("typed")
    })
    .await;
    let ticking = command("while :; do echo tick; sleep 0.1; done");
    let counting = ProcessSpec {
        exec: emberbox_guest::ExecSpec {
            timeout_ms: 0,
            ..ticking
        },
        name: None,
    };
    let process = guest.start_process(counting).await.unwrap();
    let snapshot = SnapshotId::generate();
    let paused = rig.host.snapshot(&vm, &snapshot, AfterSnapshot::End);
    paused.await.unwrap();
    let vm = rig.restore(&sandbox, &snapshot, Keep::Kept).await.unwrap();
    let guest = rig.host.guest(&vm).unwrap();
    let (mut input, _output) = guest.attach_terminal(TERMINAL, None).await.unwrap();
    let asked = "echo $kept > /root/kept\n";
    input.write(asked.into()).await.unwrap();
    eventually("the shell's answer", async || {
        say(&rig.host, &vm, "cat /root/kept || true").await == "42"
    })
    .await;
    let back = guest.process(process.pid).await.unwrap();
    assert_eq!(back.ended, None, "the background process ended");
    rig.close().await;
}

async fn what_cannot_be_restored_says_why() {
    let rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    let id = SnapshotId::generate();
    let paused = rig.host.snapshot(&vm, &id, AfterSnapshot::End);
    paused.await.unwrap();

    let other = SnapshotId::generate();
    let unknown = rig.restore(&sandbox, &other, Keep::Kept);
    assert!(matches!(unknown.await, Err(HostError::UnknownSnapshot(_))));
    let larger = Shape { vcpus: 2, ..SHAPE };
    let shape = rig.restore_as(&sandbox, &id, larger).await;
    assert!(matches!(shape, Err(HostError::IncompatibleSnapshot(_))));
    for file in ["memory", "state", "scratch.ext4", "manifest.json"] {
        let path = rig.snapshot_file(&id, file);
        let whole = fs::read(&path).unwrap();
        let at = whole.len() as u64 / 2;
        let changed = fs::File::options().write(true).open(&path).unwrap();
        let byte = whole[whole.len() / 2];
        changed.write_all_at(&[!byte], at).unwrap();
        let damaged = rig.restore(&sandbox, &id, Keep::Kept).await;
        assert!(
            matches!(damaged, Err(HostError::DamagedSnapshot(_))),
            "{file}: {damaged:?}"
        );
        changed.write_all_at(&[byte], at).unwrap();
    }
    assert!(
        rig.vm_directories().is_empty(),
        "a refused restore left something"
    );
    // Whole again, it can be restored as if nothing had been.
    let vm = rig.restore(&sandbox, &id, Keep::Kept).await.unwrap();
    say(&rig.host, &vm, "true").await;
    rig.host.delete_snapshot(&id).await.unwrap();
    let deleted = rig.restore(&sandbox, &id, Keep::Kept).await;
    assert!(matches!(deleted, Err(HostError::UnknownSnapshot(_))));
    rig.close().await;
}

async fn a_full_disk_leaves_the_vm_running() {
    let rig = Rig::open_on_small_disk().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    say(&rig.host, &vm, COUNTER).await;
    // On a file system of its own no link to the seed is possible.
    let fits = SnapshotId::generate();
    let taken = rig.host.snapshot(&vm, &fits, AfterSnapshot::GoOn).await;
    taken.unwrap();
    let copy = rig.restore(&sandbox, &fits, Keep::Kept).await.unwrap();
    rig.counts_past(&copy, rig.count(&copy).await).await;
    rig.host.destroy(&copy).await.unwrap();
    rig.host.delete_snapshot(&fits).await.unwrap();

    let mut filler = fs::File::create(rig.data_dir().join("filler")).unwrap();
    let block = vec![1; 1 << 20];
    while rig.free_disk() > (1 << 30) - (8 << 20) {
        filler.write_all(&block).unwrap();
    }
    for after in [AfterSnapshot::GoOn, AfterSnapshot::End] {
        let refused = rig.host.snapshot(&vm, &SnapshotId::generate(), after).await;
        assert!(matches!(refused, Err(HostError::NoCapacity)), "{refused:?}");
        assert_eq!(rig.snapshot_names(), [] as [String; 0]);
        let count = rig.count(&vm).await;
        rig.counts_past(&vm, count).await;
    }
    rig.close().await;
}

/// A guest whose write finds this machine's disk full stands still and loses
/// nothing.
async fn a_guest_waits_for_room_and_goes_on() {
    /// Longer than the write takes where there is room.
    const STANDS: Duration = Duration::from_secs(3);
    let rig = Rig::open_on_small_disk().await;
    let sandbox = SandboxId::generate();
    let vm = rig.create(&sandbox).await;
    let filler = rig.data_dir().join("filler");
    let mut filling = fs::File::create(&filler).unwrap();
    let block = vec![1; 1 << 20];
    while filling.write_all(&block).is_ok() {}
    let host = Arc::clone(&rig.host);
    let writing = say(
        &host,
        &vm,
        "head -c 40M /dev/urandom > /root/big && sync && md5sum < /root/big > /root/sum",
    );
    let mut writing = std::pin::pin!(writing);
    let early = tokio::time::timeout(STANDS, &mut writing).await;
    assert!(early.is_err(), "40 MB fitted on a full disk");
    // It takes room for as long as it is open.
    drop(filling);
    fs::remove_file(&filler).unwrap();
    writing.await;
    let check = "echo 3 > /proc/sys/vm/drop_caches; md5sum < /root/big | cmp - /root/sum";
    say(&rig.host, &vm, check).await;
    rig.close().await;
}

async fn a_vm_that_ends_takes_its_snapshot_with_it() {
    let mut rig = Rig::open().await;
    let sandbox = SandboxId::generate();
    // Destroyed while it is written: the answer is honest, nothing is half.
    let vm = rig.create(&sandbox).await;
    let (host, id, of) = (Arc::clone(&rig.host), SnapshotId::generate(), vm.clone());
    let wanted = id.clone();
    let taking =
        tokio::spawn(async move { host.snapshot(&of, &wanted, AfterSnapshot::GoOn).await });
    rig.begins_to_write(&id).await;
    rig.host.destroy(&vm).await.unwrap();
    let taken = taking.await.unwrap();
    let complete = rig.host.snapshots().unwrap().contains(&id);
    assert_eq!(taken.is_ok(), complete, "{taken:?}");
    let names = rig.snapshot_names();
    assert!(names.iter().all(|name| !name.contains('.')), "{names:?}");

    // Two at once wait for each other, and so does what comes after.
    let vm = rig.create(&sandbox).await;
    let (one, two) = (SnapshotId::generate(), SnapshotId::generate());
    let both = tokio::join!(
        rig.host.snapshot(&vm, &one, AfterSnapshot::GoOn),
        rig.host.snapshot(&vm, &two, AfterSnapshot::GoOn),
    );
    assert!(matches!(both, (Ok(_), Ok(_))), "{both:?}");
    let same = rig.host.snapshot(&vm, &one, AfterSnapshot::GoOn).await;
    assert!(matches!(same, Err(HostError::Snapshot(_))), "{same:?}");
    say(&rig.host, &vm, "echo alive").await;

    // Nobody had asked for this end.
    let guest = rig.host.guest(&vm).unwrap();
    let end = guest.exec(command("echo o > /proc/sysrq-trigger")).await;
    let event = rig.events.recv().await.unwrap();
    drop(end);
    let HostEvent::Ended { vm: ended, .. } = event;
    assert_eq!(ended, vm);
    rig.close().await;
}

async fn a_server_killed_meanwhile_leaves_no_half() {
    for after_ms in [1, 10, 25, 50, 80, 120, 200, 400] {
        let rig = Rig::open().await;
        let victim = rig.close_for_a_victim().await;
        let vm: VmId = victim.serve_and(Wanted::Snapshots).await;
        victim.kill_after(Duration::from_millis(after_ms)).await;
        let rig = victim.reopen().await;
        assert_eq!(
            rig.host.running(),
            from_ref(&vm),
            "killed after {after_ms} ms"
        );
        let count = rig.count(&vm).await;
        rig.counts_past(&vm, count).await;
        let names = rig.snapshot_names();
        assert!(names.iter().all(|name| !name.contains('.')), "{names:?}");
        // Those that are there are complete.
        for id in rig.host.snapshots().unwrap().into_iter().take(2) {
            let fork = rig.restore(&SandboxId::generate(), &id, Keep::Kept).await;
            rig.host.destroy(&fork.unwrap()).await.unwrap();
        }
        rig.close().await;
    }
}

/// Killed while a VM's last snapshot is taken: either the VM runs and there is
/// none, or there is one and no VM.
async fn a_server_killed_under_a_pause_leaves_one_of_both() {
    for after_ms in [40, 90, 150, 220, 300, 400, 600] {
        let rig = Rig::open().await;
        let victim = rig.close_for_a_victim().await;
        let vm = victim.serve_and(Wanted::Pause).await;
        victim.kill_after(Duration::from_millis(after_ms)).await;
        let rig = victim.reopen().await;
        let names = rig.snapshot_names();
        assert!(names.iter().all(|name| !name.contains('.')), "{names:?}");
        let ids = rig.host.snapshots().unwrap();
        let vm = match ids.as_slice() {
            [] => {
                assert_eq!(rig.host.running(), from_ref(&vm), "{after_ms} ms");
                vm
            }
            [id] => {
                assert!(
                    rig.host.running().is_empty(),
                    "{after_ms} ms: both are there"
                );
                assert!(rig.vm_directories().is_empty());
                let sandbox = SandboxId::generate();
                rig.restore(&sandbox, id, Keep::Consumed).await.unwrap()
            }
            more => panic!("{more:?}"),
        };
        let count = rig.count(&vm).await;
        rig.counts_past(&vm, count).await;
        rig.close().await;
    }
}
