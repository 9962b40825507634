//! User processes stand still while a snapshot is taken.
//!
//! What runs when the vCPUs stop goes on in every restore, with the random
//! numbers, the clock and the name of the moment of the snapshot. So nothing of
//! the user's runs then: the kernel's freezer holds it, and lets it go in this
//! life when the snapshot is done, in another when its identity is in force.
//!
//! ```text
//! /sys/fs/cgroup/emberbox   pid 1, the agent, commands begun since the last time
//!                sandbox    every command begun before: moved here, never back
//!                …          what the user makes
//! ```
//!
//! Invariants: while it holds, the agent starts no process; it never holds the
//! agent; a call to hold that comes after its own end holds nothing. Who moves
//! a process to the root group, which knows no freezer, takes it out of this.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::system::Machine;

/// Where the kernel shows its groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// The group of the agent and of commands that are new.
const OWN: &str = "emberbox";

/// The group of commands that have been held once.
const HELD: &str = "sandbox";

/// Looks for processes that came up while others were moved. Each leaves out
/// what is held by then, so only a storm of new ones needs more than two.
const SWEEPS: usize = 16;

/// How long the kernel may take to stop everything. A process that is still
/// inside a system call by then stops before its next instruction.
const STOPS: Duration = Duration::from_millis(250);

/// Pause between two looks; the kernel notifies of it only through a poll of
/// its own.
const LOOK: Duration = Duration::from_millis(1);

/// A group that is there for a moment.
const EMPTY: &str = "emberbox-empty";

/// The pid of init.
const INIT: u32 = 1;

/// Holds user processes.
pub(crate) struct Freezer {
    groups: Option<PathBuf>,
    holds: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The groups that are held by us, and not by the user.
    held: Vec<PathBuf>,
    /// When the host last let go, by its clock.
    let_go_unix_ns: u64,
}

/// Puts this process, and what it starts, into the agent's group.
pub(crate) fn enter_own_group() -> io::Result<()> {
    let own = Path::new(GROUPS).join(OWN);
    make_group(&own)?;
    fs::write(own.join("cgroup.procs"), "0")
}

impl Freezer {
    /// On a machine that is not the agent's own it holds nothing but new
    /// commands.
    pub(crate) fn new(machine: Machine) -> Self {
        let groups = match machine {
            Machine::Own => Some(PathBuf::from(GROUPS)),
            Machine::Shared => None,
        };
        Self {
            groups,
            holds: watch::Sender::new(false),
            state: Mutex::default(),
        }
    }

    /// Resolves while nothing is held. Cancel-safe.
    pub(crate) async fn released(&self) {
        let mut holds = self.holds.subscribe();
        // The sender lives as long as this.
        let _ = holds.wait_for(|holds| !holds).await;
    }

    /// Holds everything. `asked_unix_ns` is when the host asked: if it has let
    /// go since, the call comes too late and does nothing. Says how
    /// long the first has been held when the last is.
    pub(crate) async fn hold(&self, asked_unix_ns: u64) -> io::Result<Duration> {
        let (held, since) = {
            let mut state = self.state.lock().expect("no panic while held");
            if asked_unix_ns <= state.let_go_unix_ns {
                return Ok(Duration::ZERO);
            }
            let Some(groups) = &self.groups else {
                self.holds.send_replace(true);
                return Ok(Duration::ZERO);
            };
            // What fails here fails again where it counts.
            let _ = rehearse(groups);
            let since = Instant::now();
            self.holds.send_replace(true);
            stop(groups, &mut state.held)?;
            (state.held.clone(), since)
        };
        let deadline = Instant::now() + STOPS;
        while !held.iter().all(|group| stands_still(group)) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        Ok(since.elapsed())
    }

    /// Lets everything go. Idempotent.
    pub(crate) fn let_go(&self, unix_ns: u64) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic while held");
        state.let_go_unix_ns = state.let_go_unix_ns.max(unix_ns);
        let mut outcome = Ok(());
        state.held.retain(|group| match set(group, "0") {
            Err(error) if group.exists() => {
                outcome = Err(error);
                true
            }
            Ok(()) | Err(_) => false,
        });
        self.holds.send_replace(false);
        outcome
    }
}

/// Does beforehand what can be done while everything runs, so that it stands
/// still for less: moves what is new in our group, and stops and lets go a
/// group without a process. In an emulated guest that was just restored the
/// kernel's code for it has to be translated first, which is most of the time.
fn rehearse(groups: &Path) -> io::Result<()> {
    let sandbox = groups.join(HELD);
    make_group(&sandbox)?;
    move_new(&groups.join(OWN), &sandbox)?;
    others(groups)?;
    let empty = groups.join(EMPTY);
    // One that is there already is the user's.
    fs::create_dir(&empty)?;
    let stopped = set(&empty, "1");
    stands_still(&empty);
    let let_go = set(&empty, "0");
    fs::remove_dir(&empty)?;
    stopped.and(let_go)
}

/// Every group but our own.
fn others(groups: &Path) -> io::Result<Vec<PathBuf>> {
    let mut others = Vec::new();
    for entry in fs::read_dir(groups)? {
        let entry = entry?;
        // Most entries are files of the kernel's.
        if entry.file_type()?.is_dir() && entry.file_name() != OWN {
            others.push(entry.path());
        }
    }
    Ok(others)
}

/// Stops every group but our own, and moves what is new in ours to one that is
/// stopped.
fn stop(groups: &Path, held: &mut Vec<PathBuf>) -> io::Result<()> {
    let (own, sandbox) = (groups.join(OWN), groups.join(HELD));
    make_group(&sandbox)?;
    for group in others(groups)? {
        if held.contains(&group) {
            continue;
        }
        // One that the user has stopped is not ours to let go.
        if fs::read_to_string(group.join("cgroup.freeze")).is_ok_and(|set| set.trim() == "0") {
            set(&group, "1")?;
            held.push(group);
        }
    }
    move_new(&own, &sandbox)
}

/// Moves what commands have begun out of the agent's group.
fn move_new(own: &Path, sandbox: &Path) -> io::Result<()> {
    let ours = [INIT, std::process::id()];
    for _ in 0..SWEEPS {
        let text = fs::read_to_string(own.join("cgroup.procs"))?;
        let pids = text.lines().filter_map(|line| line.parse().ok());
        let new: Vec<u32> = pids.filter(|pid| !ours.contains(pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            match fs::write(sandbox.join("cgroup.procs"), pid.to_string()) {
                Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => return Err(error),
                // It has ended.
                Ok(()) | Err(_) => {}
            }
        }
    }
    Err(io::Error::other("new processes come up without end"))
}

fn make_group(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn set(group: &Path, freeze: &str) -> io::Result<()> {
    fs::write(group.join("cgroup.freeze"), freeze)
}

/// Whether the kernel says so. A group that is gone moves no more.
fn stands_still(group: &Path) -> bool {
    let events = fs::read_to_string(group.join("cgroup.events"));
    events.map_or(true, |text| text.lines().any(|line| line == "frozen 1"))
}

#[cfg(test)]
mod tests;
