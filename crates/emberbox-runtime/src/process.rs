//! A process that is not necessarily our child: found again after a restart,
//! told apart from another that got its number, and waited for.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::engine::MemoryUse;

/// A process by number and start time, which together never recur in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its number in our PID namespace.
    pub pid: i32,
    /// Clock ticks from boot to its start (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

impl ProcessRef {
    /// The process that runs under this number now. One that has ended and only
    /// waits to be reaped does not run: its parent may take its time.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let bad = || io::Error::other("unreadable /proc/PID/stat");
        // The command's name may hold spaces and brackets: count from its end.
        let (_, rest) = stat.rsplit_once(')').ok_or_else(bad)?;
        // `rest` begins with field 3.
        let mut fields = rest.split_whitespace();
        if matches!(fields.next(), Some("Z" | "X")) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let start_ticks = fields.nth(22 - 4).ok_or_else(bad)?;
        Ok(Self {
            pid,
            start_ticks: start_ticks.parse().map_err(io::Error::other)?,
        })
    }

    /// Reads what [`ProcessRef::save`] wrote.
    pub fn load(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
    }

    /// Records the process, atomically.
    pub fn save(self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(&self)?)?;
        fs::rename(temporary, path)
    }

    /// A handle if the process still runs; `None` if it ended, even if another
    /// has its number now.
    pub fn open(self) -> io::Result<Option<Process>> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Compared after the handle was taken: from here on the number cannot
        // pass to another process without our handle being dead.
        match Self::of(self.pid) {
            Ok(now) if now == self => {}
            Ok(_) | Err(_) => return Ok(None),
        }
        let pidfd = watch(pidfd)?;
        Ok(Some(Process {
            reference: self,
            pidfd,
        }))
    }
}

#[expect(
    unsafe_code,
    reason = "tokio cannot know that an owned descriptor stays open"
)]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is moved into the `AsyncFd`, which owns it and
    // deregisters before it closes it; nobody else closes it.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// A handle to one process, ours or not. Dropping it does nothing to it.
#[derive(Debug)]
pub struct Process {
    reference: ProcessRef,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.reference.pid
    }

    /// What finds it again.
    #[must_use]
    pub fn reference(&self) -> ProcessRef {
        self.reference
    }

    /// A descriptor that is this process and never another.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }

    /// Ends it. Idempotent.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, and reaps it if it is our child: then the
    /// answer says how. Cancel-safe.
    pub async fn wait(&self) -> Option<String> {
        loop {
            // A pidfd becomes readable when its process ends (pidfd_open(2)).
            let Ok(mut ready) = self.pidfd.readable().await else {
                return None;
            };
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            return match waitid(Id::PIDFd(self.pidfd()), flags) {
                Ok(WaitStatus::Exited(_, code)) => Some(format!("exit code {code}")),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("signal {signal}")),
                Ok(WaitStatus::StillAlive) => {
                    ready.clear_ready();
                    continue;
                }
                // Not our child, or somebody else reaped it: only the end is known.
                Ok(_) | Err(_) => None,
            };
        }
    }
}

/// Memory of a process, from `/proc/PID/smaps_rollup`.
pub fn memory_use(pid: i32) -> io::Result<MemoryUse> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |key: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let private = kib("Private_Clean:") + kib("Private_Dirty:");
    Ok(MemoryUse {
        pss: kib("Pss:") * 1024,
        private: private * 1024,
    })
}

/// A process that runs as this user, if there is one. Looks at every process of
/// the machine: some ten microseconds each.
pub fn any_of(uid: u32) -> io::Result<Option<i32>> {
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that ends meanwhile is nobody's any more.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        if runs_as(&status, uid) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Whether a `/proc/PID/status` is of a process that runs and has this user as
/// one of its four: real, effective, saved, and of its files.
fn runs_as(status: &str, uid: u32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let ended = field("State:").is_some_and(|state| state.trim_start().starts_with(['Z', 'X']));
    let users = field("Uid:").unwrap_or_default();
    !ended && users.split_whitespace().any(|user| user.parse() == Ok(uid))
}

#[cfg(test)]
mod tests;
