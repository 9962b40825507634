use emberbox_guest::client::{ClientError, ExecCall, ExecEvent, ExecOutput};

use emberbox_guest::message::CHUNK;

use super::*;
use crate::testing::{Guest, eventually, gone, refusal};

fn spec(command: &str) -> ExecSpec {
    ExecSpec {
        command: command.into(),
        cwd: "/".into(),
        timeout_ms: 30_000,
        ..ExecSpec::default()
    }
}

async fn run(guest: &Guest, spec: ExecSpec) -> ExecOutput {
    let call = guest.client.exec(spec).await.unwrap();
    call.collect(64 << 20).await.unwrap()
}

async fn sh(guest: &Guest, command: &str) -> ExecOutput {
    run(guest, spec(command)).await
}

/// The first line of a command's output.
async fn first_output(call: &mut ExecCall) -> String {
    match call.next().await.unwrap() {
        ExecEvent::Output(_, data) => String::from_utf8(data.to_vec()).unwrap(),
        ExecEvent::Exited(status) => panic!("ended with {status:?} before any output"),
    }
}

#[tokio::test]
async fn outputs_stay_apart_and_the_code_comes_back() {
    let guest = Guest::claimed().await;
    let output = sh(&guest, "echo out; echo err >&2; exit 7").await;
    assert_eq!(&output.stdout[..], b"out\n");
    assert_eq!(&output.stderr[..], b"err\n");
    assert_eq!(output.status, ExitStatus::Code(7));
}

#[tokio::test]
async fn a_signal_is_told_from_a_code() {
    let guest = Guest::claimed().await;
    for signal in [9, 15, 34] {
        let output = sh(&guest, &format!("kill -{signal} $$")).await;
        assert_eq!(output.status, ExitStatus::Signal(signal));
    }
}

#[tokio::test]
async fn every_byte_of_a_large_output_arrives() {
    let guest = Guest::claimed().await;
    let output = sh(
        &guest,
        "head -c 5000000 /dev/zero; head -c 300000 /dev/zero >&2",
    )
    .await;
    assert_eq!(output.stdout.len(), 5_000_000);
    assert_eq!(output.stderr.len(), 300_000);
}

#[tokio::test]
async fn what_cannot_run_is_refused_by_its_reason() {
    let guest = Guest::claimed().await;
    let huge = "x".repeat(200_000);
    let in_directory = |cwd: &str| ExecSpec {
        cwd: cwd.into(),
        ..spec("true")
    };
    for (spec, code) in [
        (in_directory("/no/such"), GuestErrorCode::NoSuchCwd),
        (in_directory("/etc/passwd"), GuestErrorCode::NoSuchCwd),
        (in_directory("etc"), GuestErrorCode::InvalidPath),
        (in_directory(""), GuestErrorCode::InvalidPath),
        (in_directory("/\0"), GuestErrorCode::InvalidPath),
        (spec("echo \0"), GuestErrorCode::Spawn),
        (spec(&huge), GuestErrorCode::Spawn),
        (
            ExecSpec {
                env: vec![("A=B".into(), "x".into())],
                ..spec("true")
            },
            GuestErrorCode::Spawn,
        ),
    ] {
        let result = guest.client.exec(spec).await.map(|call| call.pid());
        assert_eq!(refusal(result), code);
    }
    assert_eq!(sh(&guest, "true").await.status, ExitStatus::Code(0));
}

/// Descriptors of this process that a child would inherit.
fn inheritable() -> Vec<String> {
    let inherited = |name: &String| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}"));
        let flags = info.ok().and_then(|text| {
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(flags.trim(), 8).ok()
        });
        flags.is_some_and(|flags| flags & nix::libc::O_CLOEXEC == 0)
    };
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(inherited)
        .collect()
}

#[tokio::test]
async fn a_command_inherits_nothing_from_the_agent() {
    let from_outside = inheritable();
    let guest = Guest::claimed().await;
    let command = "cd /proc/self/fd && echo *; readlink 0; \
        grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o sid= -p $$; echo $$";
    let output = sh(&guest, command).await;
    let text = String::from_utf8(output.stdout.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    for descriptor in lines[0].split(' ') {
        // The shell's glob has the directory open as 3.
        let own = ["0", "1", "2", "3"].contains(&descriptor);
        assert!(
            own || from_outside.iter().any(|fd| fd == descriptor),
            "{descriptor} leaked"
        );
    }
    assert_eq!(lines[1], "/dev/null");
    assert_eq!(lines[2], "SigBlk:\t0000000000000000");
    let ignored = u64::from_str_radix(lines[3].trim_start_matches("SigIgn:").trim(), 16).unwrap();
    // glibc ignores its own 32 and 33 in what it spawns.
    assert_eq!(ignored & !0x1_8000_0000, 0);
    assert_eq!(lines[4], lines[5], "not a session of its own");
}

#[tokio::test]
async fn stdin_flows_and_ends() {
    let guest = Guest::claimed().await;
    let with_stdin = |command: &str| ExecSpec {
        stdin: true,
        ..spec(command)
    };
    let mut call = guest.client.exec(with_stdin("wc -c")).await.unwrap();
    for _ in 0..48 {
        call.write_stdin(vec![b'x'; CHUNK].into()).await.unwrap();
    }
    call.close_stdin().await.unwrap();
    let output = call.collect(100).await.unwrap();
    assert_eq!(
        output.stdout.trim_ascii(),
        (48 * CHUNK).to_string().as_bytes()
    );

    // One that reads nothing ends all the same.
    let mut call = guest
        .client
        .exec(with_stdin("exec 0<&-; echo closed"))
        .await
        .unwrap();
    for _ in 0..8 {
        call.write_stdin(vec![b'x'; CHUNK].into()).await.unwrap();
    }
    let output = call.collect(100).await.unwrap();
    assert_eq!(&output.stdout[..], b"closed\n");
    assert_eq!(sh(&guest, "true").await.status, ExitStatus::Code(0));
}

#[tokio::test]
async fn a_background_child_neither_holds_the_call_nor_loses_its_pipe() {
    let guest = Guest::claimed().await;
    let proof = guest.path("proof");
    let go = guest.path("go");
    let command = format!(
        "(while [ ! -e {go} ]; do sleep 0.01; done; head -c 1000000 /dev/zero && echo $? > {proof}) & \
         echo started"
    );
    let output = sh(&guest, &command).await;
    assert_eq!(&output.stdout[..], b"started\n");
    assert_eq!(output.status, ExitStatus::Code(0));
    std::fs::write(&go, "").unwrap();
    eventually("the child writes more than a pipe holds", || async {
        std::fs::read_to_string(&proof).is_ok_and(|text| text == "0\n")
    })
    .await;
}

#[tokio::test]
async fn a_background_flood_does_not_prolong_the_call() {
    let guest = Guest::claimed().await;
    let output = sh(&guest, "yes >&2 & echo $!").await;
    assert_eq!(output.status, ExitStatus::Code(0));
    let pid = String::from_utf8(output.stdout.to_vec()).unwrap();
    sh(&guest, &format!("kill -9 {pid}")).await;
    gone(&pid).await;
}

#[tokio::test]
async fn the_deadline_kills_the_whole_group() {
    let guest = Guest::claimed().await;
    let short = ExecSpec {
        timeout_ms: 500,
        ..spec("trap '' TERM; sleep 1000 & echo $!; (sleep 1000 & echo $!; wait) & wait")
    };
    let output = run(&guest, short).await;
    assert_eq!(output.status, ExitStatus::TimedOut);
    let text = String::from_utf8(output.stdout.to_vec()).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for pid in text.lines() {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_reader_that_stops_does_not_stop_the_deadline() {
    let guest = Guest::claimed().await;
    let pidfile = guest.path("pid");
    let short = ExecSpec {
        timeout_ms: 500,
        ..spec(&format!("echo $$ > {pidfile}; exec yes"))
    };
    let call = guest.client.exec(short).await.unwrap();
    // Nothing is read from `call`, so the connection fills up.
    eventually("the start", || async {
        std::fs::read_to_string(&pidfile).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    gone(&std::fs::read_to_string(&pidfile).unwrap()).await;
    drop(call);
}

#[tokio::test]
async fn a_hang_up_kills_the_whole_group() {
    let guest = Guest::claimed().await;
    let mut call = guest
        .client
        .exec(spec("sleep 1000 & echo $! $$; wait"))
        .await
        .unwrap();
    let pids = first_output(&mut call).await;
    drop(call);
    for pid in pids.split_whitespace() {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_call_within_a_call_is_out_of_turn() {
    let guest = Guest::claimed().await;
    let mut wire = guest.wire().await;
    let request = emberbox_guest::Request::Exec(spec("sleep 1000"));
    let call = ToAgent::Call {
        token: crate::testing::token(),
        request,
    };
    wire.send(&call).await;
    let Some(FromAgent::Started { pid }) = wire.answer().await else {
        panic!("not started");
    };
    wire.send(&call).await;
    assert_eq!(wire.answer().await, None);
    gone(&pid.to_string()).await;
}

#[tokio::test]
async fn commands_run_side_by_side() {
    let guest = Guest::claimed().await;
    let calls = (0..20).map(|n| {
        let client = guest.client.clone();
        tokio::spawn(async move {
            let output = client
                .exec(spec(&format!("echo {n}")))
                .await?
                .collect(100)
                .await?;
            Ok::<_, ClientError>((n, output.stdout))
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let (n, stdout) = call.await.unwrap().unwrap();
        assert_eq!(stdout, format!("{n}\n"));
    }
}
