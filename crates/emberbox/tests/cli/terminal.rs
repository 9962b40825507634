//! A terminal of ours connected with one of a sandbox.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::rig::{SANDBOX, emberbox, emberbox_at, encoded, read, stderr};

/// Longest a test waits for anything; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal on which the binary runs.
struct Pty {
    /// What the user has: keyboard and screen.
    user: File,
    program: OwnedFd,
}

impl Pty {
    fn new(cols: u16, rows: u16) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let pty = Self {
            program: rustix::fs::open(name, flags, Mode::empty()).unwrap(),
            user: user.into(),
        };
        pty.resize(cols, rows);
        pty
    }

    fn resize(&self, cols: u16, rows: u16) {
        let size = Winsize {
            ws_col: cols,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.program, size).unwrap();
    }

    fn run(&self, url: &str, arguments: &[&str]) -> Child {
        let end = || Stdio::from(self.program.try_clone().unwrap());
        let mut command = emberbox_at(url, arguments);
        command.env("TERM", "xterm-test").stdin(end()).stdout(end());
        command.stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Whether keys are shown and edited here, as at the start.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.program).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn screen_shows(&mut self, expected: &[u8]) {
        let mut screen = vec![0; expected.len()];
        self.user.read_exact(&mut screen).unwrap();
        assert_eq!(screen, expected);
    }
}

type Socket = WebSocket<std::net::TcpStream>;

/// What follows when the socket is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Nothing: the terminal ended by itself.
    Nothing,
    /// The terminal is ended.
    Deleted,
}

/// A server with one terminal, whose other end is `look`; gives what it was
/// asked to open.
fn host(
    then: Then,
    look: impl FnOnce(&mut Socket) + Send + 'static,
) -> (String, JoinHandle<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let host = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let opened = read(&stream);
        let path = format!("POST /api/v1/sandboxes/{}/terminal ", encoded(SANDBOX));
        assert!(opened.line.starts_with(&path), "{}", opened.line);
        let body = json!({ "session_id": "00000000000000aa", "ws_url": "ws://elsewhere.test/",
            "stream_auth": "t", "stream_auth_expires_at": "2026-01-02T03:04:05.000Z" })
        .to_string();
        let answer = format!(
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        look(&mut socket);
        if then == Then::Deleted {
            let (mut stream, _) = listener.accept().unwrap();
            let line = read(&stream).line;
            assert!(line.starts_with("DELETE "), "{line}");
            assert!(line.contains("/terminal/00000000000000aa "), "{line}");
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        }
        serde_json::from_slice(&opened.body).unwrap()
    });
    (url, host)
}

fn size(message: &Message) -> (i64, i64) {
    let text = message.to_text().unwrap();
    let resize: Value = serde_json::from_str(text).unwrap();
    assert_eq!(resize["type"], "resize");
    let side = |name: &str| resize[name].as_i64().unwrap();
    (side("cols"), side("rows"))
}

fn close(socket: &mut Socket, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    };
    socket.close(Some(frame)).unwrap();
    // Until the client has closed as well.
    while socket.read().is_ok() {}
}

#[test]
fn a_shell_has_our_keys_our_screen_and_our_size() {
    let mut pty = Pty::new(100, 30);
    let (ready, is_ready) = channel();
    let (url, host) = host(Then::Nothing, move |socket| {
        assert_eq!(size(&socket.read().unwrap()), (100, 30));
        ready.send(()).unwrap();
        let mut typed = Vec::new();
        while typed.len() < 4 {
            typed.extend(socket.read().unwrap().into_data());
        }
        // As they were typed: Ctrl-C is a key, and nothing became a line's end.
        assert_eq!(typed, b"ls\x03\r");
        socket.send(Message::binary(&b"a\nb\r\n"[..])).unwrap();
        assert_eq!(size(&socket.read().unwrap()), (120, 40));
        close(socket, 1000, "exit code 7");
    });
    let mut child = pty.run(&url, &["sandbox", "sh", SANDBOX, "--cwd", "/tmp"]);
    is_ready.recv_timeout(PATIENCE).unwrap();
    assert!(!pty.is_cooked());
    pty.user.write_all(b"ls\x03\r").unwrap();
    pty.screen_shows(b"a\nb\r\n");
    pty.resize(120, 40);
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(pty.is_cooked());
    assert_eq!(
        host.join().unwrap(),
        json!({ "cols": 100, "rows": 30, "cwd": "/tmp", "env": { "TERM": "xterm-test" } })
    );
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    let pty = Pty::new(80, 24);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let (ready, is_ready) = channel();
        let (url, host) = host(Then::Deleted, move |socket| {
            size(&socket.read().unwrap());
            ready.send(()).unwrap();
            while socket.read().is_ok() {}
        });
        let mut child = pty.run(&url, &["sandbox", "sh", SANDBOX]);
        is_ready.recv_timeout(PATIENCE).unwrap();
        assert!(!pty.is_cooked());
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(pty.is_cooked());
        host.join().unwrap();
    }
}

#[test]
fn a_command_in_a_terminal_that_is_closed_says_why() {
    let pty = Pty::new(80, 24);
    let (url, host) = host(Then::Deleted, |socket| {
        close(socket, 4001, "another client looks at the terminal");
    });
    let arguments = ["sandbox", "exec", "-it", SANDBOX, "--", "top", "-d 1"];
    let output = pty.run(&url, &arguments).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("another client"),
        "{}",
        stderr(&output)
    );
    assert!(pty.is_cooked());
    assert_eq!(host.join().unwrap()["shell"], "top '-d 1'");
}

#[test]
fn without_a_terminal_there_is_none() {
    for arguments in [
        &["sandbox", "sh", SANDBOX][..],
        &["sandbox", "exec", "-it", SANDBOX, "--", "top"],
    ] {
        let output = emberbox_at("http://127.0.0.1:1", arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("exec -i"), "{}", stderr(&output));
    }
    // A terminal without input is of no use, and it has no time limit.
    for arguments in [
        &["sandbox", "exec", "-t", SANDBOX, "--", "top"][..],
        &[
            "sandbox",
            "exec",
            "-it",
            "--timeout",
            "1",
            SANDBOX,
            "--",
            "top",
        ],
    ] {
        let output = emberbox().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
