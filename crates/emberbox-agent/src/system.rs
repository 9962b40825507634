//! What of the machine an agent may change.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The machine an agent serves.
#[derive(Debug)]
pub struct System {
    root: PathBuf,
    machine: Machine,
    /// `/proc/self/oom_score_adj`, kept open because every spawn writes it.
    oom_score: Option<File>,
}

/// Whose kernel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// The agent's own: a claim sets host name, clock, entropy and MTU.
    Own,
    /// Somebody else's (tests): a claim changes nothing but files under `root`.
    Shared,
}

impl System {
    /// A system whose `/etc` is found under `root`. On its own machine the
    /// agent is exempt from the out-of-memory killer from here on.
    pub fn new(root: impl Into<PathBuf>, machine: Machine) -> io::Result<Self> {
        let oom_score = match machine {
            Machine::Own => {
                let file = OpenOptions::new()
                    .write(true)
                    .open("/proc/self/oom_score_adj")?;
                file.write_all_at(b"-1000", 0)?;
                Some(file)
            }
            Machine::Shared => None,
        };
        Ok(Self {
            root: root.into(),
            machine,
            oom_score,
        })
    }

    pub(crate) fn machine(&self) -> Machine {
        self.machine
    }

    /// `path`, which is absolute, under this system's root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root
            .join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    /// Runs `spawn` with the score its child is to have. The score is
    /// inherited and the runtime has one thread, so nothing else sees it; the
    /// child, which could run before a write from here, never has ours.
    pub(crate) fn with_command_oom_score<T>(&self, spawn: impl FnOnce() -> T) -> T {
        let Some(file) = &self.oom_score else {
            return spawn();
        };
        // A failed write only makes the killer's choice worse.
        let _ = file.write_all_at(b"0", 0);
        let spawned = spawn();
        let _ = file.write_all_at(b"-1000", 0);
        spawned
    }
}
