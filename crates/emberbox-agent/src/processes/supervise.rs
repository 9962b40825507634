//! The task that looks after one background process until it has ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use emberbox_guest::{ExitStatus, GuestError, GuestErrorCode, ProcessEnd};
use nix::libc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{Process, unix_ms};
use crate::agent::Agent;
use crate::exec::{self, Child, LONGEST, Output, Stdin};

/// What the task of a process can be asked.
pub(super) enum Order {
    Input {
        data: Bytes,
        close: bool,
        answer: oneshot::Sender<Result<(), GuestError>>,
    },
    Signal {
        signal: i32,
        answer: oneshot::Sender<Result<(), GuestError>>,
    },
    Stop {
        grace_ms: u64,
    },
}

/// Feeds, reads and ends a process.
pub(super) async fn run(
    agent: Arc<Agent>,
    process: Arc<Process>,
    started: exec::Started,
    mut orders: mpsc::Receiver<Order>,
    timeout_ms: u64,
) {
    let (child, stdin, mut stdout, mut stderr) = started;
    let mut life = Life {
        process: &process,
        child,
        stdin,
        killing: Killing::No,
        kill_at: (timeout_ms > 0).then(|| in_ms(timeout_ms)),
    };
    let status = loop {
        let kill_at = life.kill_at;
        tokio::select! {
            () = life.child.ended() => break life.end(),
            () = async { sleep_until(kill_at.unwrap_or_else(Instant::now)).await },
                if kill_at.is_some() => life.kill(),
            () = life.stdin.write(), if life.stdin.has_bytes() => {}
            order = orders.recv() => if let Some(order) = order {
                life.obey(order);
            },
            _ = stdout.readable() => life.take(&mut stdout),
            _ = stderr.readable() => life.take(&mut stderr),
        }
    };
    for output in [&mut stdout, &mut stderr] {
        for data in output.rest() {
            process.log().append(output.stream(), &data);
        }
    }
    process.log().seal();
    // Whoever is still in the queue sees its end, and with that the process's.
    drop(orders);
    process.end.send_replace(Some(ProcessEnd {
        status,
        unix_ms: unix_ms(),
    }));
    exec::linger(&agent, [stdout, stderr]);
}

struct Life<'a> {
    process: &'a Process,
    child: Child,
    stdin: Stdin,
    killing: Killing,
    /// When the group is killed whatever it does.
    kill_at: Option<Instant>,
}

/// Why a process is to end, if it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Killing {
    No,
    /// Somebody asked for it.
    Stopped,
    /// Its time was over.
    TimedOut,
}

impl Life<'_> {
    fn obey(&mut self, order: Order) {
        // Whoever does not wait for the answer does not want it.
        match order {
            Order::Input {
                data,
                close,
                answer,
            } => {
                let _ = answer.send(self.input(data, close));
            }
            Order::Signal { signal, answer } => {
                let _ = answer.send(self.signal(signal));
            }
            Order::Stop { grace_ms } => {
                // Processes that do not expect it end by it, stopped ones too.
                let _ = self.child.signal_group(libc::SIGTERM);
                let _ = self.child.signal_group(libc::SIGCONT);
                let kill_at = in_ms(grace_ms);
                self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
                self.killing = Killing::Stopped;
            }
        }
    }

    fn input(&mut self, data: Bytes, close: bool) -> Result<(), GuestError> {
        if !self.stdin.takes_input() {
            return Err(GuestError::new(
                GuestErrorCode::ProcessEnded,
                "the standard input of the process is closed",
            ));
        }
        if !self.stdin.has_room() {
            return Err(GuestError::new(
                GuestErrorCode::LimitReached,
                "the process does not read its standard input",
            ));
        }
        self.stdin.push(data);
        if close {
            self.stdin.end();
        }
        Ok(())
    }

    fn signal(&self, signal: i32) -> Result<(), GuestError> {
        self.child.signal_group(signal).map_err(|error| {
            GuestError::new(
                GuestErrorCode::Protocol,
                format_args!("cannot send signal {signal}: {error}"),
            )
        })
    }

    fn take(&self, output: &mut Output) {
        if let Some(data) = output.take() {
            self.process.log().append(output.stream(), &data);
            // Nothing but a wake-up: the value stays what it is.
            self.process.end.send_modify(|_end| ());
        }
    }

    fn kill(&mut self) {
        if self.killing == Killing::No {
            self.killing = Killing::TimedOut;
        }
        self.kill_at = None;
        self.child.kill_group();
    }

    /// The process has ended; what it leaves in its group ends with it if it
    /// was made to.
    fn end(&mut self) -> ExitStatus {
        match self.killing {
            Killing::No => self.child.reap(),
            Killing::Stopped => {
                self.child.kill_group();
                self.child.reap()
            }
            Killing::TimedOut => {
                self.child.reap();
                ExitStatus::TimedOut
            }
        }
    }
}

fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms).min(LONGEST)
}
