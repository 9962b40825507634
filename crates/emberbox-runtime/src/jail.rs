//! How a VMM process is confined before it runs.
//!
//! The server starts *itself* under the name [`ARG0`]; that short-lived
//! process joins the VM's cgroup and network namespace, makes mount, IPC, UTS
//! and PID namespaces, builds a root of nothing but read-only system
//! libraries, gives up every privilege and becomes the VMM. Nothing of this
//! runs in the multi-threaded server, where only async-signal-safe code could.
//!
//! ```text
//! server ──spawn──▶ emberbox-jail ──clone(NEWPID|PARENT)──▶ pid 1 of the jail
//!                   writes the pid file, exits               drops all, exec
//! ```
//!
//! Firecracker's own jailer may take over where the last step would begin: it
//! finds its root with the VM's files shown in it, which no other mount
//! namespace sees.
//!
//! Invariants: the VMM opens no path of the host — everything it needs is an
//! inherited descriptor or shown in its root; it is never root unless an
//! operator asked for that; it cannot gain privileges.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::process::ProcessRef;

mod enter;
pub(crate) mod late;
mod shown;

/// The name (`argv[0]`) under which an executable is to become the jail.
pub const ARG0: &str = "emberbox-jail";

/// How many descriptors a VMM may have: one per device and connection, and some
/// for its own.
pub(crate) const DESCRIPTORS: u64 = 1024;

/// Exit code of a jail that could not be built.
const FAILED: i32 = 127;

/// What the jail is told, as one JSON argument. Holds no secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JailSpec {
    /// An inherited descriptor of the network namespace to join.
    pub netns: RawFd,
    /// Files to write the own pid to, in order to join cgroups.
    pub cgroup_procs: Vec<PathBuf>,
    /// What is done to the process besides.
    pub confinement: Confinement,
    /// Where the VMM's [`ProcessRef`] is recorded.
    pub pid_file: PathBuf,
    /// The VMM.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

/// How a process that is in its cgroup and namespaces is confined before it
/// becomes its program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Confinement {
    /// All is done here; the program is a VMM that needs no path but its own.
    Complete {
        /// An empty directory to build the root on.
        root: PathBuf,
        /// The VMM's user and group: this VM's own.
        uid: u32,
        /// Device nodes the VMM may open.
        devices: Vec<PathBuf>,
    },
    /// Files are shown in the root that the program, a jailer, enters and
    /// drops its privileges in.
    ByTheProgram {
        /// The directory that is to be its root.
        root: PathBuf,
        /// What is shown there.
        files: Vec<ShownFile>,
    },
    /// Files are shown in a root, and the program starts there as root: for
    /// operators who ask for it.
    RootOnly {
        /// The directory that is to be its root.
        root: PathBuf,
        /// What is shown there.
        files: Vec<ShownFile>,
    },
}

/// A file of the host that appears in a VMM's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownFile {
    /// Where it is.
    pub source: PathBuf,
    /// Its name in the root.
    pub name: String,
    /// What may be done with it.
    pub access: Access,
}

/// What may be done with a shown file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Running it.
    Execute,
    /// A device: reading, writing and its controls.
    Device,
}

/// How to start the jail: an executable whose `main` calls
/// [`become_jail_if_asked`] first.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The executable, started with `argv[0]` = [`ARG0`].
    pub program: PathBuf,
}

impl Launcher {
    /// This very executable, also after it was replaced on disk.
    #[must_use]
    pub fn this_executable() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
        }
    }
}

/// Becomes the jail, and never returns, if this process was started as one.
/// Must be the first call of `main`: no thread may run yet.
pub fn become_jail_if_asked() {
    let mut args = std::env::args_os();
    if args.next().is_none_or(|arg0| arg0 != ARG0) {
        return;
    }
    let code = match run(args.next()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{ARG0}: {error}");
            FAILED
        }
    };
    std::process::exit(code);
}

/// Which step of entering the jail failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {source}")]
struct JailError {
    step: &'static str,
    source: io::Error,
}

fn step<T, E: Into<io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, JailError> {
    result.map_err(|error| JailError {
        step,
        source: error.into(),
    })
}

fn run(spec: Option<OsString>) -> Result<(), JailError> {
    let spec = spec.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
    let spec = step("read the jail spec", spec)?;
    let spec: JailSpec = step(
        "read the jail spec",
        serde_json::from_slice(spec.as_encoded_bytes()),
    )?;
    for procs in &spec.cgroup_procs {
        step(
            "join the cgroup",
            fs::write(procs, std::process::id().to_string()),
        )?;
    }
    // SAFETY: the parent passed this descriptor for us alone; nothing else in
    // this single-threaded process owns it.
    let netns = enter::own_descriptor(spec.netns);
    step(
        "join the network namespace",
        setns(&netns, CloneFlags::CLONE_NEWNET),
    )?;
    drop(netns);
    let private = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    step("make namespaces", unshare(private))?;
    let (recorded, record) = step("make a pipe", io::pipe())?;
    match step("make the PID namespace", enter::clone_as_sibling())? {
        Some(vmm) => step("record the VMM", save(&spec.pid_file, vmm, record)),
        None => {
            drop(record);
            step("wait for its record", wait(recorded))?;
            enter::confine_and_exec(&spec)
        }
    }
}

/// Writes the pid file, then lets the VMM go on.
fn save(pid_file: &Path, vmm: i32, mut record: io::PipeWriter) -> io::Result<()> {
    ProcessRef::of(vmm)?.save(pid_file)?;
    record.write_all(&[1])
}

/// Waits for [`save`]: a VMM that is not recorded must not run. Both processes
/// share one mount namespace, so that until then the root must stay, too:
/// pivot_root(2) moves it for both.
fn wait(mut recorded: io::PipeReader) -> io::Result<()> {
    recorded.read_exact(&mut [0])
}
