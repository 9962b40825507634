use std::time::Duration;

use emberbox_guest::client::{ClientError, ProcessEvent, ProcessFollow};
use emberbox_guest::process::{LIVE_PROCESSES, LOG_BYTES};
use emberbox_guest::{ExecSpec, ExitStatus, OutputStream};
use nix::libc;

use super::*;
use crate::testing::{Guest, eventually, gone, refusal};

/// Longer than any test waits.
const GRACE: Duration = Duration::from_secs(300);

fn spec(command: &str) -> ProcessSpec {
    ProcessSpec {
        exec: ExecSpec {
            command: command.into(),
            cwd: "/".into(),
            stdin: true,
            ..ExecSpec::default()
        },
        name: Some("job".into()),
    }
}

async fn start(guest: &Guest, command: &str) -> u32 {
    guest.client.start_process(spec(command)).await.unwrap().pid
}

/// Everything a follower gets, by stream, and the end.
async fn collect(mut follow: ProcessFollow) -> (String, String, ProcessEvent) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        match follow.next().await.unwrap() {
            ProcessEvent::Output { stream, data, .. } => match stream {
                OutputStream::Stdout => stdout.extend(data),
                OutputStream::Stderr => stderr.extend(data),
            },
            end => {
                let text = |bytes| String::from_utf8(bytes).unwrap();
                return (text(stdout), text(stderr), end);
            }
        }
    }
}

async fn first_output(follow: &mut ProcessFollow) -> String {
    match follow.next().await.unwrap() {
        ProcessEvent::Output { data, .. } => String::from_utf8(data.to_vec()).unwrap(),
        other => panic!("{other:?} before any output"),
    }
}

#[tokio::test]
async fn a_process_outlives_its_call_and_is_remembered() {
    let guest = Guest::claimed().await;
    let info = guest
        .client
        .start_process(spec("echo $FROM_IDENTITY; read line; echo err >&2; exit 3"))
        .await
        .unwrap();
    assert!(info.ended.is_none() && info.started_unix_ms > 1_600_000_000_000);
    assert_eq!(info.name.as_deref(), Some("job"));
    let mut follow = guest.client.follow_process(info.pid, 0).await.unwrap();
    assert_eq!(first_output(&mut follow).await, "yes\n");
    guest
        .client
        .write_process(info.pid, "x\n".into(), false)
        .await
        .unwrap();
    let (stdout, stderr, end) = collect(follow).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", "err\n"));
    assert_eq!(end, ProcessEvent::Exited(ExitStatus::Code(3)));
    let info = guest.client.process(info.pid).await.unwrap();
    assert_eq!(info.ended.unwrap().status, ExitStatus::Code(3));
    assert!(info.ended.unwrap().unix_ms >= info.started_unix_ms);
    assert_eq!(info.written, 8);
    assert_eq!(
        guest.client.processes().await.unwrap(),
        std::slice::from_ref(&info)
    );
    let late = guest.client.follow_process(info.pid, 4).await.unwrap();
    let (stdout, stderr, end) = collect(late).await;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", "err\n"));
    assert_eq!(end, ProcessEvent::Exited(ExitStatus::Code(3)));
}

#[tokio::test]
async fn input_goes_on_until_it_is_closed() {
    let guest = Guest::claimed().await;
    let pid = start(&guest, "cat").await;
    let mut follow = guest.client.follow_process(pid, 0).await.unwrap();
    let write = |text: &'static str, close| guest.client.write_process(pid, text.into(), close);
    write("one", false).await.unwrap();
    assert_eq!(first_output(&mut follow).await, "one");
    write("two", true).await.unwrap();
    assert_eq!(first_output(&mut follow).await, "two");
    let end = follow.next().await.unwrap();
    assert_eq!(end, ProcessEvent::Exited(ExitStatus::Code(0)));
    let refused = refusal(write("late", false).await);
    assert_eq!(refused, GuestErrorCode::ProcessEnded);
}

#[tokio::test]
async fn who_does_not_read_is_not_fed_without_end() {
    let guest = Guest::claimed().await;
    let pid = start(&guest, "sleep 300").await;
    let chunk = bytes::Bytes::from(vec![b'x'; 512 * 1024]);
    let refused = loop {
        if let Err(error) = guest.client.write_process(pid, chunk.clone(), false).await {
            break refusal::<()>(Err(error));
        }
    };
    assert_eq!(refused, GuestErrorCode::LimitReached);
    guest
        .client
        .signal_process(pid, libc::SIGKILL)
        .await
        .unwrap();
}

#[tokio::test]
async fn signals_reach_the_whole_group() {
    let guest = Guest::claimed().await;
    let pid = start(&guest, "sleep 300 & echo $!; wait").await;
    let mut follow = guest.client.follow_process(pid, 0).await.unwrap();
    let child = first_output(&mut follow).await;
    guest
        .client
        .signal_process(pid, libc::SIGTERM)
        .await
        .unwrap();
    let end = follow.next().await.unwrap();
    assert_eq!(end, ProcessEvent::Exited(ExitStatus::Signal(libc::SIGTERM)));
    gone(&child).await;
    let late = guest.client.signal_process(pid, libc::SIGTERM).await;
    assert_eq!(refusal(late), GuestErrorCode::ProcessEnded);
    let pid = start(&guest, "sleep 300").await;
    for wrong in [65, -9] {
        let refused = guest.client.signal_process(pid, wrong).await;
        assert_eq!(refusal(refused), GuestErrorCode::Protocol);
    }
    guest.client.stop_process(pid, GRACE).await.unwrap();
}

#[tokio::test]
async fn stopping_asks_first_and_then_insists() {
    let guest = Guest::claimed().await;
    let polite = start(
        &guest,
        "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done",
    );
    let polite = polite.await;
    let mut follow = guest.client.follow_process(polite, 0).await.unwrap();
    assert_eq!(first_output(&mut follow).await, "up\n");
    guest.client.stop_process(polite, GRACE).await.unwrap();
    let (stdout, _, end) = collect(follow).await;
    assert_eq!(
        (stdout.as_str(), end),
        ("bye\n", ProcessEvent::Exited(ExitStatus::Code(0)))
    );
    guest.client.stop_process(polite, GRACE).await.unwrap();

    let stubborn = start(
        &guest,
        "trap '' TERM; sleep 300 & echo $!; while :; do wait; done",
    )
    .await;
    let mut follow = guest.client.follow_process(stubborn, 0).await.unwrap();
    let child = first_output(&mut follow).await;
    let grace = Duration::from_millis(50);
    guest.client.stop_process(stubborn, grace).await.unwrap();
    let end = follow.next().await.unwrap();
    assert_eq!(end, ProcessEvent::Exited(ExitStatus::Signal(libc::SIGKILL)));
    gone(&child).await;
}

#[tokio::test]
async fn what_ignores_a_stop_ends_with_its_leader() {
    let guest = Guest::claimed().await;
    let pid = start(
        &guest,
        "(trap '' TERM; echo $BASHPID; exec sleep 300) & wait",
    )
    .await;
    let mut follow = guest.client.follow_process(pid, 0).await.unwrap();
    let child = first_output(&mut follow).await;
    guest.client.stop_process(pid, GRACE).await.unwrap();
    gone(&child).await;
}

#[tokio::test]
async fn a_timeout_ends_the_group() {
    let guest = Guest::claimed().await;
    let mut spec = spec("sleep 300 & echo $!; wait");
    spec.exec.timeout_ms = 300;
    let pid = guest.client.start_process(spec).await.unwrap().pid;
    let follow = guest.client.follow_process(pid, 0).await.unwrap();
    let (child, _, end) = collect(follow).await;
    assert_eq!(end, ProcessEvent::Exited(ExitStatus::TimedOut));
    gone(&child).await;
}

#[tokio::test]
async fn a_slow_follower_sees_a_gap_and_holds_nobody_up() {
    let guest = Guest::claimed().await;
    let written = 20 * LOG_BYTES as u64;
    let pid = start(&guest, &format!("read go; head -c {written} /dev/zero")).await;
    let mut follow = guest.client.follow_process(pid, 0).await.unwrap();
    guest
        .client
        .write_process(pid, "go\n".into(), false)
        .await
        .unwrap();
    // Nobody reads, and still the process ends.
    eventually("the end of the process", || async {
        guest.client.process(pid).await.unwrap().ended.is_some()
    })
    .await;
    let (mut at, mut gaps) = (0, 0);
    loop {
        match follow.next().await.unwrap() {
            ProcessEvent::Output { offset, data, .. } => {
                gaps += u32::from(offset > at);
                at = offset + data.len() as u64;
            }
            end => {
                assert_eq!(end, ProcessEvent::Exited(ExitStatus::Code(0)));
                break;
            }
        }
    }
    assert!(gaps > 0);
    assert_eq!(at, written);
    let (log, _, end) = collect(guest.client.process_log(pid).await.unwrap()).await;
    assert_eq!((log.len(), end), (LOG_BYTES, ProcessEvent::End));
}

#[tokio::test]
async fn a_replay_of_a_running_process_ends() {
    let guest = Guest::claimed().await;
    let pid = start(&guest, "yes").await;
    eventually("some output", || async {
        guest.client.process(pid).await.unwrap().written > 2 * LOG_BYTES as u64
    })
    .await;
    let (log, _, end) = collect(guest.client.process_log(pid).await.unwrap()).await;
    assert!(!log.is_empty());
    assert_eq!(end, ProcessEvent::End);
    guest
        .client
        .signal_process(pid, libc::SIGKILL)
        .await
        .unwrap();
}

#[tokio::test]
async fn processes_are_bounded_and_the_oldest_ended_are_forgotten() {
    let guest = Guest::claimed().await;
    let mut pids = Vec::new();
    let refused = loop {
        match guest.client.start_process(spec("exec sleep 300")).await {
            Ok(info) => pids.push(info.pid),
            Err(error) => break refusal::<()>(Err(error)),
        }
    };
    assert_eq!(
        (refused, pids.len()),
        (GuestErrorCode::LimitReached, LIVE_PROCESSES)
    );
    for pid in &pids {
        guest.client.stop_process(*pid, GRACE).await.unwrap();
    }
    let first = start(&guest, "true").await;
    guest.client.stop_process(first, GRACE).await.unwrap();
    start(&guest, "true").await;
    let known = guest.client.processes().await.unwrap();
    assert!(known.len() <= LIVE_PROCESSES + 1, "{}", known.len());
    assert!(known.iter().any(|info| info.pid == first));
    let forgotten = guest.client.process(pids[0]).await;
    assert_eq!(refusal(forgotten), GuestErrorCode::NoSuchProcess);
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let guest = Guest::claimed().await;
    let client = &guest.client;
    let missing = GuestErrorCode::NoSuchProcess;
    // The agent's own process is none of them.
    for pid in [0, 1, std::process::id(), u32::MAX] {
        assert_eq!(refusal(client.process(pid).await), missing);
        assert_eq!(refusal(client.signal_process(pid, 9).await), missing);
        assert_eq!(refusal(client.stop_process(pid, GRACE).await), missing);
        assert_eq!(
            refusal(client.write_process(pid, "x".into(), true).await),
            missing
        );
        let follow = client.follow_process(pid, 0).await.map(drop);
        assert_eq!(refusal(follow), missing);
    }
    let mut nowhere = spec("true");
    nowhere.exec.cwd = "/no/such".into();
    let refused = client.start_process(nowhere).await;
    assert_eq!(refusal(refused), GuestErrorCode::NoSuchCwd);
}

#[tokio::test]
async fn a_follower_that_hangs_up_gives_its_place_back() {
    let guest = Guest::claimed().await;
    let pid = start(&guest, "exec sleep 300").await;
    let mut held = Vec::new();
    let refused = loop {
        match guest.client.follow_process(pid, 0).await {
            Ok(follow) => held.push(follow),
            Err(ClientError::Guest(error)) => break error.code,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(refused, GuestErrorCode::LimitReached);
    drop(held);
    eventually("a free place", || async {
        guest.client.follow_process(pid, 0).await.is_ok()
    })
    .await;
    guest.client.stop_process(pid, GRACE).await.unwrap();
}
