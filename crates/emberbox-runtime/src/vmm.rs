//! A VMM's process, whichever engine it belongs to: started through the jail,
//! found again, ended, and what it leaves removed.
//!
//! Invariant: a process of a VM is in its pid file or in its cgroup, so that
//! [`end`] finds it whatever state its start was in.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use emberbox_core::VmId;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::cgroup::CgroupTree;
use crate::engine::{EngineError, VmPlace};
use crate::jail::{ARG0, JailSpec, Launcher};
use crate::net::Slot;
use crate::process::{Process, ProcessRef};

pub(crate) mod charge;
pub(crate) mod console;
pub(crate) mod guest;

/// Files in a VM's directory.
pub(crate) const PID_FILE: &str = "vmm.pid";
pub(crate) const LOG_FILE: &str = "vmm.log";

/// The descriptor number of the network namespace in the jail process.
pub(crate) const NETNS_FD: i32 = 3;

/// How long a killed process may take to end. One in the middle of a large
/// write to a slow disk takes seconds.
const REAP: Duration = Duration::from_secs(30);

/// How much of a failed VMM's log goes into an error.
const LOG_TAIL: usize = 2000;

/// Between attempts to remove a cgroup that is still busy.
const POLL: Duration = Duration::from_millis(2);

/// How long a killed process's cgroup may stay busy.
const CGROUP_BUSY: Duration = Duration::from_secs(5);

/// A VMM that is to be started.
pub(crate) struct Launch<'a> {
    pub(crate) launcher: &'a Launcher,
    pub(crate) place: &'a VmPlace,
    pub(crate) slot: &'a Slot,
    pub(crate) jail: &'a JailSpec,
    /// What it inherits beside its namespace and its standard streams.
    pub(crate) inherited: Vec<FdMapping>,
    pub(crate) stdout: Stdio,
}

impl Launch<'_> {
    /// Starts it. Its errors go to the VM's log, its process is recorded.
    pub(crate) async fn run(self) -> Result<Process, EngineError> {
        let place = self.place;
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(place.dir.join(LOG_FILE))
            .map_err(|e| EngineError::host("cannot open the VMM's log", e))?;
        let netns = self
            .slot
            .netns()
            .try_clone_to_owned()
            .map_err(|e| EngineError::host("cannot pass the network namespace", e))?;
        let mut mappings = vec![FdMapping {
            parent_fd: netns,
            child_fd: NETNS_FD,
        }];
        mappings.extend(self.inherited);
        let argument = serde_json::to_string(self.jail)
            .map_err(|e| EngineError::host("cannot describe the jail", io::Error::other(e)))?;
        let mut command = Command::new(&self.launcher.program);
        command
            .arg0(ARG0)
            .arg(argument)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(self.stdout)
            .stderr(log);
        command
            .fd_mappings(mappings)
            .map_err(|_collision| start_error(place, "descriptor numbers collide"))?;
        // Dropped half-way, it must not go on to start a VMM that nobody awaits.
        let status = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|e| EngineError::host("cannot start the jail", e))?;
        if !status.success() {
            return Err(start_error(place, &status.to_string()));
        }
        find(place)?.ok_or_else(|| start_error(place, "it ended at once"))
    }
}

/// The VMM of a place, if it runs.
pub(crate) fn find(place: &VmPlace) -> Result<Option<Process>, EngineError> {
    match ProcessRef::load(&place.dir.join(PID_FILE)) {
        Ok(reference) => reference
            .open()
            .map_err(|e| EngineError::host("cannot watch the VMM", e)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::host("cannot read the VMM's pid file", error)),
    }
}

/// Ends whatever runs of a VM, and removes its cgroup and pid file. Idempotent.
pub(crate) async fn end(place: &VmPlace, cgroups: &CgroupTree) -> Result<(), EngineError> {
    // The pid file names the VMM; the cgroup also whatever was on its way,
    // which may start one more process before it hears of its end.
    let deadline = Instant::now() + REAP;
    loop {
        let mut processes: Vec<_> = find(place)?.into_iter().collect();
        for pid in cgroups.processes(&place.id) {
            let found = ProcessRef::of(pid).and_then(ProcessRef::open);
            processes.extend(found.ok().flatten());
        }
        if processes.is_empty() {
            break;
        }
        for process in &processes {
            process
                .kill()
                .map_err(|e| EngineError::host("cannot end the VMM", e))?;
        }
        let ended = join_all(processes.iter().map(Process::wait));
        tokio::time::timeout_at(deadline, ended)
            .await
            .map_err(|_elapsed| {
                EngineError::host(
                    "cannot end the VMM",
                    io::Error::from(io::ErrorKind::TimedOut),
                )
            })?;
    }
    remove_cgroup(cgroups, &place.id).await?;
    remove_file(&place.dir.join(PID_FILE))
}

/// Removes a cgroup whose last process was just killed: the kernel may hold it
/// busy for a moment longer.
pub(crate) async fn remove_cgroup(cgroups: &CgroupTree, vm: &VmId) -> Result<(), EngineError> {
    let deadline = Instant::now() + CGROUP_BUSY;
    loop {
        match cgroups.remove(vm) {
            Ok(()) => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                sleep(POLL).await;
            }
            Err(error) => return Err(EngineError::host("cannot remove the cgroup", error)),
        }
    }
}

/// Removes a file that need not be there.
pub(crate) fn remove_file(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EngineError::host(
            format!("cannot remove {}", path.display()),
            error,
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs blocking work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(|error| EngineError::host(doing, error))
}

/// What went wrong with a start, and the VMM's last words.
pub(crate) fn start_error(place: &VmPlace, what: &str) -> EngineError {
    let log = fs::read(place.dir.join(LOG_FILE)).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]);
    EngineError::Start {
        detail: format!("{what}; {}", tail.trim()),
    }
}
