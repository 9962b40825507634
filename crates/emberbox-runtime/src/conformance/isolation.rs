//! What a guest, and the VMM around it, cannot reach.

use std::fs;
use std::path::PathBuf;

use emberbox_guest::client::ClientError;
use emberbox_guest::{ExecSpec, GuestErrorCode, PORT};

use super::{Fixture, Guest, Outcome, check, failed};
use crate::jail::DESCRIPTORS;
use crate::net::GATEWAY_ADDRESS;

/// Addresses no guest may reach, whatever the host's network is: metadata
/// services, link-local and private ranges, loopback on the host.
const FORBIDDEN: [&str; 5] = [
    "169.254.169.254",
    "100.100.100.200",
    "10.0.0.1",
    "192.168.0.1",
    "172.16.0.1",
];

/// Seen from outside: user, privileges, limit, namespaces, system call filter,
/// root.
pub(super) async fn the_vmm_is_jailed(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("jailed").await?;
    is_jailed(&guest)?;
    fixture.end(guest).await
}

pub(super) fn is_jailed(guest: &Guest) -> Outcome {
    let pid = guest.vm.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
    let uid = guest.spec.slot.uid();
    let expected = [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        format!("Gid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        "CapEff:\t0000000000000000".to_owned(),
        "CapPrm:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
    ];
    for line in expected {
        check(status.contains(&line), || {
            format!("no {line:?} in {status}")
        })?;
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(failed)?;
    let descriptors = DESCRIPTORS.to_string();
    let limited = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .is_some_and(|line| {
            let [soft, hard] = [&descriptors; 2];
            line.split_whitespace().take(2).eq([soft, hard])
        });
    check(limited, || format!("other limits: {limits}"))?;
    for namespace in ["net", "mnt", "pid", "ipc", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        let (theirs, ours) = (
            of(&pid.to_string()).map_err(failed)?,
            of("self").map_err(failed)?,
        );
        check(theirs != ours, || {
            format!("it shares our {namespace} namespace")
        })?;
    }
    let root = format!("/proc/{pid}/root");
    for path in ["home", "root", "var", "work", "etc/shadow", "run"] {
        let path = PathBuf::from(format!("{root}/{path}"));
        // A jailer may make directories of its own.
        let empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        check(empty || !path.try_exists().unwrap_or(true), || {
            format!("{} of the host is in its root", path.display())
        })?;
    }
    Ok(())
}

/// The host, other guests, metadata and private networks are out of reach.
pub(super) async fn guests_reach_nothing_they_must_not(fixture: &Fixture) -> Outcome {
    let (one, two) = (
        fixture.restored("one").await?,
        fixture.restored("two").await?,
    );
    two.say("nohup python3 -m http.server 8000 --bind 0.0.0.0 > /dev/null 2>&1 &")
        .await?;
    let service = fixture.outside.host_service;
    let (host_end, their_end) = two.spec.slot.index().transit();
    let mut forbidden = vec![
        (service.ip().to_string(), service.port()),
        // The gateway is only a resolver, not a way to the host's own services.
        (GATEWAY_ADDRESS.to_string(), service.port()),
        (GATEWAY_ADDRESS.to_string(), 22),
        (host_end.to_string(), service.port()),
        (their_end.to_string(), 8000),
        (their_end.to_string(), PORT),
    ];
    forbidden.extend(FORBIDDEN.map(|address| (address.to_owned(), 80)));
    let mut arguments = String::new();
    for (address, port) in &forbidden {
        arguments.push_str(&format!(" {address}:{port}"));
    }
    one.say(REACH_SCRIPT).await?;
    let reached = one
        .say(&format!("python3 /root/reach.py{arguments}"))
        .await?;
    check(reached == "reached:", || format!("a guest {reached}"))?;
    // The script does reach what is there: its own server.
    one.say("nohup python3 -m http.server 8000 --bind 127.0.0.1 > /dev/null 2>&1 &")
        .await?;
    let own = "for i in $(seq 100); do python3 /root/reach.py 127.0.0.1:8000 | grep 127 && exit; done; exit 1";
    one.say(own).await?;
    let has_v6 = one
        .run("ip -6 addr show scope global | grep -q inet6")
        .await
        .map_err(failed)?;
    check(has_v6.status != emberbox_guest::ExitStatus::Code(0), || {
        "it has IPv6".to_owned()
    })?;
    fixture.end(one).await?;
    fixture.end(two).await
}

/// The outside answers, by address and by name.
pub(super) async fn guests_reach_the_outside_and_dns(fixture: &Fixture) -> Outcome {
    let guest = fixture.restored("outside").await?;
    let service = fixture.outside.outside_service;
    let name = &fixture.outside.outside_name;
    let resolved = guest
        .say(&format!(
            "getent ahostsv4 {name} | head -n 1 | cut -d ' ' -f 1"
        ))
        .await?;
    check(resolved == service.ip().to_string(), || {
        format!("{name} resolved to {resolved:?}")
    })?;
    let connect = format!(
        "python3 -c 'import socket; print(socket.create_connection((\"{name}\", {}), 20).recv(64))'",
        service.port(),
    );
    let said = guest.say(&connect).await?;
    check(!said.is_empty() && said != "b''", || {
        format!("the outside said {said:?}")
    })?;
    fixture.end(guest).await
}

/// Before it is claimed, a guest runs nothing and opens no file.
pub(super) async fn an_unclaimed_guest_runs_nothing(fixture: &Fixture) -> Outcome {
    let (spec, vm, client) = fixture.unclaimed().await?;
    let exec = ExecSpec {
        command: "true".to_owned(),
        cwd: "/".to_owned(),
        ..ExecSpec::default()
    };
    let refusals = [
        client.exec(exec).await.err(),
        client.read_file("/etc/passwd").await.err(),
        client.stat("/").await.err(),
    ];
    for refusal in refusals {
        let unclaimed = matches!(
            &refusal,
            Some(ClientError::Guest(error)) if error.code == GuestErrorCode::Unclaimed
        );
        check(unclaimed, || {
            format!("an unclaimed guest answered {refusal:?}")
        })?;
    }
    vm.stop().await.map_err(failed)?;
    fixture.remove(&spec).await
}

/// Writes a script that tries all its arguments at once and prints those to
/// which a TCP connection was made.
const REACH_SCRIPT: &str = "cat > /root/reach.py <<'END'
import socket, sys, threading
reached = []
def reach(target):
    address, port = target.split(':')
    try:
        socket.create_connection((address, int(port)), 3).close()
        reached.append(target)
    except OSError:
        pass
threads = [threading.Thread(target=reach, args=(target,)) for target in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('reached:', *reached)
END";
