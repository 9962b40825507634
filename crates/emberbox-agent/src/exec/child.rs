//! The process of one command, from its start until it is reaped.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;

use emberbox_guest::ExitStatus;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// A child that leads its own process group. Dropped before its end was seen,
/// it takes the whole group with it.
pub(crate) struct Child {
    pid: i32,
    ended: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Child {
    /// Takes charge of a child that was just spawned. On an error it is killed.
    pub(crate) fn adopt(pid: i32) -> io::Result<Self> {
        // Not reaped yet, so the number is still this process's.
        let ended = sys::watch_process(pid);
        match ended {
            Ok(ended) => Ok(Self {
                pid,
                ended,
                reaped: false,
            }),
            Err(error) => {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
                let _ = sys::wait(Some(pid));
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        // Process ids are positive.
        self.pid.unsigned_abs()
    }

    /// Waits for its end and reaps it. Cancel-safe; called once it returned,
    /// it would wait for a stranger.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        self.ended().await;
        self.reap()
    }

    /// Waits for its end; until it is reaped, its number stays its own.
    /// Cancel-safe.
    pub(crate) async fn ended(&self) {
        assert!(!self.reaped, "a child ends once");
        // An error would mean the runtime is going down.
        let _ = self.ended.readable().await;
    }

    /// Takes the status of a child that has ended.
    pub(crate) fn reap(&mut self) -> ExitStatus {
        let status = sys::wait(Some(self.pid));
        self.reaped = true;
        match status {
            Ok((_, status)) => status
                .code()
                .map(ExitStatus::Code)
                .or(status.signal().map(ExitStatus::Signal))
                .expect("an ended process has a code or a signal"),
            Err(error) => unreachable!("only this waits for the child: {error}"),
        }
    }

    /// Kills everything in the process group; the leader is still to be reaped.
    pub(crate) fn kill_group(&self) {
        if !self.reaped {
            // Unreaped, so the group's number cannot be another's.
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }

    /// Sends a signal, by its number, to the process group.
    pub(crate) fn signal_group(&self, signal: i32) -> io::Result<()> {
        if self.reaped {
            return Err(nix::Error::ESRCH.into());
        }
        sys::signal_group(self.pid, signal)
    }

    /// Kills the group unless the child ended before.
    pub(crate) async fn kill_and_wait(&mut self) {
        if !self.reaped {
            self.kill_group();
            self.wait().await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only when the server itself ends; pid 1 reaps then.
        self.kill_group();
    }
}
