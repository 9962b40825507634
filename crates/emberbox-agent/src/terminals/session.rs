//! The task of one terminal, from its shell's start to its end.

use std::collections::VecDeque;
use std::ffi::CString;
use std::time::Duration;

use bytes::{Buf, Bytes};
use emberbox_guest::{ExitStatus, GuestError, GuestErrorCode, TerminalSize, TerminalSpec};
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::members;
use super::pty::{Closed, Pty};
use super::replay::Replay;
use crate::agent::Agent;
use crate::exec::{self, Child, Process, Program, Stdio};

/// How long a terminal waits for somebody to look at it: a closed laptop on a
/// short way, but not for ever.
const DETACHED: Duration = Duration::from_secs(10 * 60);

/// How long a shell may take to end when its terminal is closed: it saves its
/// history then.
const HANG_UP: Duration = Duration::from_secs(3);

/// How long the last output of a shell is offered to who looks.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Most output a terminal can hold when its shell ends: a few kernel buffers.
/// What is more comes from a background job that writes on.
const LAST_BYTES: usize = 256 * 1024;

/// Bytes typed ahead of the programs. Past it nothing is taken.
const AHEAD: usize = 1024 * 1024;

/// Programs draw for a terminal like this unless they are told otherwise.
const TERM: &str = "xterm-256color";

/// What the task of a terminal can be asked.
pub(super) enum Order {
    /// Show everything to this one from now on.
    Attach(Viewer, Option<TerminalSize>),
    /// End.
    Close,
}

/// Who looks at a terminal. It goes when either half is dropped.
pub(super) struct Viewer {
    pub(super) output: mpsc::Sender<Bytes>,
    pub(super) input: mpsc::Receiver<Typed>,
}

/// What who looks does.
pub(super) enum Typed {
    Bytes(Bytes),
    Size(TerminalSize),
}

/// A shell on its terminal.
pub(super) struct Started {
    child: Child,
    pty: Pty,
}

/// Starts a shell.
pub(super) fn start(agent: &Agent, spec: &TerminalSpec) -> Result<Started, GuestError> {
    let refuse = |message: &str| GuestError::new(GuestErrorCode::Spawn, message);
    let cwd = exec::directory(&spec.cwd)?;
    let command = spec.shell.as_deref().map(CString::new).transpose();
    let command = command.map_err(|_nul| refuse("the shell has a NUL byte"))?;
    let mut variables = vec![("TERM".to_owned(), TERM.to_owned())];
    variables.extend_from_slice(&spec.env);
    let environment = agent.environment().with(&variables);
    let environment = environment.map_err(|error| GuestError::new(GuestErrorCode::Spawn, error))?;
    let (pty, path) = Pty::open(spec.size).map_err(|error| {
        let message = format_args!("cannot open a terminal: {error}");
        GuestError::new(GuestErrorCode::Spawn, message)
    })?;
    let process = Process {
        program: command.as_deref().map_or(Program::Login, Program::Command),
        cwd: &cwd,
        environment: &environment,
        stdio: Stdio::Terminal(&path),
    };
    let child = exec::spawn(agent, &process).map_err(|error| exec::explain(&spec.cwd, &error))?;
    Ok(Started { child, pty })
}

/// Runs a terminal to its end; `ending` is called when that has begun. Gives
/// back who looked last: until it is dropped, it waits.
pub(super) async fn run(
    started: Started,
    orders: &mut mpsc::Receiver<Order>,
    ending: impl FnOnce(),
) -> (ExitStatus, Option<Viewer>) {
    let Started { mut child, pty } = started;
    let mut session = Session {
        pty,
        replay: Replay::default(),
        viewer: None,
        unseen: Bytes::new(),
        typed: VecDeque::new(),
        typed_bytes: 0,
        alone_since: Instant::now(),
    };
    let ended = tokio::select! {
        () = child.ended() => true,
        () = session.serve(orders) => false,
    };
    ending();
    if ended {
        session.last_words().await;
    } else {
        hang_up(&child).await;
    }
    (child.reap(), session.viewer)
}

/// Ends everything in the session of a shell that has not been reaped.
async fn hang_up(child: &Child) {
    // Process ids are positive.
    let session = child.pid().cast_signed();
    for signal in [Signal::SIGHUP, Signal::SIGCONT] {
        // Without /proc there is still the shell's own group, below.
        let _ = members::signal(session, signal);
    }
    let _ = timeout(HANG_UP, child.ended()).await;
    members::kill_all(session).await;
    child.kill_group();
    child.ended().await;
}

struct Session {
    pty: Pty,
    replay: Replay,
    viewer: Option<Viewer>,
    /// Output the viewer has no room for yet; nothing more is read until then.
    unseen: Bytes,
    typed: VecDeque<Bytes>,
    typed_bytes: usize,
    /// When the last viewer left.
    alone_since: Instant,
}

impl Session {
    /// Serves until it is told to close, or was alone for too long.
    /// Cancel-safe.
    async fn serve(&mut self, orders: &mut mpsc::Receiver<Order>) {
        loop {
            let waiting = !self.unseen.is_empty();
            let alone = self.viewer.is_none();
            let has_room = self.typed_bytes < AHEAD;
            let viewer = self.viewer.as_mut();
            let (output, input) = viewer.map(|v| (&v.output, &mut v.input)).unzip();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Attach(viewer, size)) => self.attach(viewer, size),
                    Some(Order::Close) | None => return,
                },
                () = sleep_until(self.alone_since + DETACHED), if alone => return,
                data = self.pty.read(), if !waiting => match data {
                    Ok(data) => self.show(data),
                    Err(Closed) => self.pty.close(),
                },
                written = write(&self.pty, &self.typed), if self.typed_bytes > 0 => {
                    self.typed(written);
                },
                gone = offer(output, &mut self.unseen), if waiting => if gone {
                    self.detach();
                },
                typed = next(input), if has_room => match typed {
                    Some(Typed::Bytes(data)) => self.take(data),
                    Some(Typed::Size(size)) => self.pty.resize(size),
                    None => self.detach(),
                },
            }
        }
    }

    fn attach(&mut self, viewer: Viewer, size: Option<TerminalSize>) {
        self.viewer = Some(viewer);
        // What the last one did not see is part of it.
        self.unseen = self.replay.show();
        self.pty.resize(size.unwrap_or(self.pty.size()));
    }

    fn detach(&mut self) {
        self.viewer = None;
        self.unseen = Bytes::new();
        self.alone_since = Instant::now();
    }

    fn show(&mut self, data: Bytes) {
        self.replay.push(&data);
        if self.viewer.is_some() {
            self.unseen = data;
        }
    }

    fn take(&mut self, data: Bytes) {
        if self.pty.is_open() && !data.is_empty() {
            self.typed_bytes += data.len();
            self.typed.push_back(data);
        }
    }

    /// So much of what was typed has gone.
    fn typed(&mut self, written: usize) {
        self.typed_bytes -= written;
        if let Some(first) = self.typed.front_mut() {
            first.advance(written);
            if first.is_empty() {
                self.typed.pop_front();
            }
        }
    }

    /// Shows what the shell wrote at its end, to who looks and while they do.
    async fn last_words(&mut self) {
        let offering = async {
            let mut left = LAST_BYTES;
            loop {
                let output = self.viewer.as_ref().map(|viewer| &viewer.output);
                if !self.unseen.is_empty() && offer(output, &mut self.unseen).await {
                    return;
                }
                match self.pty.rest().filter(|_| left > 0) {
                    Some(data) => {
                        left = left.saturating_sub(data.len());
                        self.unseen = data;
                    }
                    None => return,
                }
            }
        };
        // Who does not look in time misses them.
        let _ = timeout(LAST_WORDS, offering).await;
    }
}

/// Types what comes first; says how much of it. Cancel-safe.
async fn write(pty: &Pty, typed: &VecDeque<Bytes>) -> usize {
    match typed.front() {
        Some(first) => pty.write(first).await,
        None => 0,
    }
}

/// Gives the viewer what it has not seen; says whether it is gone.
/// Cancel-safe.
async fn offer(output: Option<&mpsc::Sender<Bytes>>, unseen: &mut Bytes) -> bool {
    let Some(output) = output else {
        return true;
    };
    match output.reserve().await {
        Ok(place) => {
            place.send(std::mem::take(unseen));
            false
        }
        Err(_gone) => true,
    }
}

/// What the viewer does next; `None` when it is gone. Cancel-safe.
async fn next(input: Option<&mut mpsc::Receiver<Typed>>) -> Option<Typed> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}
