use emberbox_guest::client::{TerminalEvent, TerminalInput, TerminalOutput};
use emberbox_guest::terminal::REPLAY_BYTES;

use tokio::time::timeout;

use super::*;
use crate::testing::{Guest, PATIENCE, eventually, gone, refusal};

fn spec(id: u64, shell: &str) -> TerminalSpec {
    TerminalSpec {
        id,
        shell: Some(shell.into()),
        cwd: "/".into(),
        ..TerminalSpec::default()
    }
}

/// Somebody who looks at a terminal.
struct Eyes {
    input: TerminalInput,
    output: TerminalOutput,
    seen: String,
}

impl Eyes {
    async fn on(guest: &Guest, id: u64, size: Option<TerminalSize>) -> Self {
        let (input, output) = guest.client.attach_terminal(id, size).await.unwrap();
        Self {
            input,
            output,
            seen: String::new(),
        }
    }

    async fn open(guest: &Guest, id: u64, shell: &str) -> Self {
        guest.client.open_terminal(spec(id, shell)).await.unwrap();
        Self::on(guest, id, None).await
    }

    async fn typing(&mut self, text: &str) {
        let text = Bytes::copy_from_slice(text.as_bytes());
        self.input.write(text).await.unwrap();
    }

    /// Looks until `text` is there.
    async fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            if let Some(end) = self.look(text).await {
                panic!("{end:?} before {text:?} in {:?}", self.seen);
            }
        }
    }

    async fn end(&mut self) -> TerminalEvent {
        loop {
            if let Some(end) = self.look("the end").await {
                return end;
            }
        }
    }

    async fn look(&mut self, what: &str) -> Option<TerminalEvent> {
        let event = timeout(PATIENCE, self.output.next()).await;
        match event.unwrap_or_else(|_| panic!("no {what:?} in {:?}", self.seen)) {
            Ok(TerminalEvent::Output(data)) => {
                self.seen += &String::from_utf8_lossy(&data);
                None
            }
            end => Some(end.unwrap()),
        }
    }
}

#[tokio::test]
async fn a_login_shell_has_a_terminal_of_its_own() {
    let guest = Guest::claimed().await;
    let login = TerminalSpec {
        shell: None,
        env: vec![("MINE".into(), "so".into())],
        ..spec(1, "")
    };
    guest.client.open_terminal(login).await.unwrap();
    let mut eyes = Eyes::on(&guest, 1, None).await;
    eyes.typing(
        "echo $TERM $MINE$FROM_IDENTITY $(tty) $(stty size) $(shopt -q login_shell && echo in)\r",
    )
    .await;
    eyes.until("xterm-256color soyes /dev/pts/").await;
    eyes.until(" 24 80 in").await;
    eyes.typing("exit 5\r").await;
    assert_eq!(eyes.end().await, TerminalEvent::Exited(ExitStatus::Code(5)));
    let later = guest.client.attach_terminal(1, None).await.map(drop);
    assert_eq!(refusal(later), GuestErrorCode::NoSuchTerminal);
}

#[tokio::test]
async fn control_c_interrupts_and_sizes_change() {
    let guest = Guest::claimed().await;
    let mut eyes = Eyes::open(&guest, 2, "PS1='ready> ' exec bash --norc").await;
    eyes.until("ready> ").await;
    eyes.typing("sh -c \"echo u''p; exec sleep 300\"\r").await;
    eyes.until("up\r\n").await;
    eyes.seen.clear();
    eyes.typing("\x03").await;
    // An interrupt drops what was typed before it is seen.
    eyes.until("ready> ").await;
    eyes.typing("echo status=$?\r").await;
    eyes.until("status=130").await;
    let size = TerminalSize {
        cols: 101,
        rows: 33,
    };
    eyes.input.resize(size).await.unwrap();
    eyes.typing("stty size\r").await;
    eyes.until("33 101").await;
    let size = TerminalSize { cols: 0, rows: 33 };
    eyes.input.resize(size).await.unwrap();
    while eyes.output.next().await.is_ok() {}
    guest.client.close_terminal(2).await.unwrap();
}

#[tokio::test]
async fn who_comes_back_sees_what_was_there_and_takes_over() {
    let guest = Guest::claimed().await;
    let mut first = Eyes::open(&guest, 3, "echo hello; exec cat").await;
    first.until("hello").await;
    let size = TerminalSize { cols: 90, rows: 20 };
    let mut second = Eyes::on(&guest, 3, Some(size)).await;
    second.until("hello").await;
    assert_eq!(first.end().await, TerminalEvent::TakenOver);
    drop(second);
    let mut third = Eyes::on(&guest, 3, None).await;
    third.typing("again\r").await;
    third.until("again\r\nagain\r\n").await;
    third.typing("\x04").await;
    assert_eq!(
        third.end().await,
        TerminalEvent::Exited(ExitStatus::Code(0))
    );
}

#[tokio::test]
async fn who_attaches_at_the_same_size_has_the_screen_drawn_again() {
    let guest = Guest::claimed().await;
    let draw = "trap 'echo drawn' WINCH; echo up; while :; do sleep 0.01; done";
    let mut eyes = Eyes::open(&guest, 4, draw).await;
    eyes.until("up").await;
    drop(eyes);
    let mut eyes = Eyes::on(&guest, 4, None).await;
    eyes.until("drawn").await;
    guest.client.close_terminal(4).await.unwrap();
}

#[tokio::test]
async fn closing_ends_every_group_of_the_session() {
    let guest = Guest::claimed().await;
    let mut eyes = Eyes::open(&guest, 5, "exec bash --norc").await;
    // With job control each of them has a group of its own; this one ignores
    // the hang-up.
    eyes.typing("(trap '' HUP TERM; sleep 300) & echo p''id=$!=\r")
        .await;
    eyes.until("pid=").await;
    let (_, rest) = eyes.seen.split_once("pid=").unwrap();
    eyes.seen = rest.to_owned();
    eyes.until("=").await;
    let pid = eyes.seen.split_once('=').unwrap().0.to_owned();
    guest.client.close_terminal(5).await.unwrap();
    gone(&pid).await;
    assert!(matches!(eyes.end().await, TerminalEvent::Exited(_)));
    let again = guest.client.close_terminal(5).await;
    assert_eq!(refusal(again), GuestErrorCode::NoSuchTerminal);
}

#[tokio::test]
async fn who_does_not_look_loses_no_output_and_may_still_interrupt() {
    let guest = Guest::claimed().await;
    let mut eyes = Eyes::open(&guest, 6, "stty -opost; seq 1 400000; echo; echo done").await;
    // Far more than every buffer between us holds; it waits.
    assert_eq!(eyes.end().await, TerminalEvent::Exited(ExitStatus::Code(0)));
    let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
    assert!(eyes.seen.contains(&expected), "{} bytes", eyes.seen.len());

    let mut eyes = Eyes::open(&guest, 7, "yes").await;
    eyes.typing("\x03").await;
    assert_eq!(
        eyes.end().await,
        TerminalEvent::Exited(ExitStatus::Signal(nix::libc::SIGINT))
    );
}

#[tokio::test]
async fn an_unseen_terminal_runs_on_and_keeps_its_latest() {
    let guest = Guest::claimed().await;
    let marker = guest.path("marker");
    let command = format!(
        "head -c 2000000 /dev/zero | tr '\\0' z; echo; echo last; touch {marker}; exec cat"
    );
    guest.client.open_terminal(spec(8, &command)).await.unwrap();
    eventually("the end of the output", || async {
        std::path::Path::new(&marker).exists()
    })
    .await;
    let mut eyes = Eyes::on(&guest, 8, None).await;
    eyes.until("last\r\n").await;
    assert!(eyes.seen.len() <= REPLAY_BYTES);
    guest.client.close_terminal(8).await.unwrap();
}

#[tokio::test]
async fn terminals_are_bounded() {
    let guest = Guest::claimed().await;
    for id in 0..TERMINALS as u64 {
        guest
            .client
            .open_terminal(spec(id, "exec cat"))
            .await
            .unwrap();
    }
    let one_more = guest.client.open_terminal(spec(99, "exec cat")).await;
    assert_eq!(refusal(one_more), GuestErrorCode::LimitReached);
    guest.client.close_terminal(0).await.unwrap();
    guest
        .client
        .open_terminal(spec(99, "exec cat"))
        .await
        .unwrap();
    let twice = TerminalSpec::default();
    guest.client.close_terminal(1).await.unwrap();
    for (spec, code) in [
        (spec(99, "true"), GuestErrorCode::Protocol),
        (spec(5000, "a\0b"), GuestErrorCode::Spawn),
        (
            TerminalSpec {
                id: 5001,
                cwd: "/no/such".into(),
                ..twice.clone()
            },
            GuestErrorCode::NoSuchCwd,
        ),
        (
            TerminalSpec {
                id: 5002,
                cwd: "no".into(),
                ..twice.clone()
            },
            GuestErrorCode::InvalidPath,
        ),
        (
            TerminalSpec {
                size: TerminalSize {
                    cols: 1001,
                    rows: 1,
                },
                ..spec(5003, "true")
            },
            GuestErrorCode::Protocol,
        ),
    ] {
        assert_eq!(refusal(guest.client.open_terminal(spec).await), code);
    }
    for id in (2..TERMINALS as u64).chain([99]) {
        guest.client.close_terminal(id).await.unwrap();
    }
}

#[tokio::test]
async fn garbage_ends_the_look_and_not_the_terminal() {
    let guest = Guest::claimed().await;
    guest
        .client
        .open_terminal(spec(10, "echo here; exec cat"))
        .await
        .unwrap();
    let mut wire = guest.wire().await;
    for request in [
        TerminalRequest::Attach { id: 10, size: None },
        TerminalRequest::Attach { id: 10, size: None },
    ] {
        let call = ToAgent::Call {
            token: crate::testing::token(),
            request: emberbox_guest::Request::Terminal(request),
        };
        wire.send(&call).await;
    }
    // The second call has no place there: the connection ends.
    while wire.answer().await.is_some() {}
    Eyes::on(&guest, 10, None).await.until("here").await;
    guest.client.close_terminal(10).await.unwrap();
}
