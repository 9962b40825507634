//! From the kernel's first user process to a serving agent.
//!
//! ```text
//! initramfs: mounts ▶ modules ▶ disks ▶ overlay root ▶ switch ▶ network ▶ fork
//!                                         pid 1: reaps; ends the VM ◀──────┤
//!                                         child: Agent::serve  ◀───────────┘
//! ```
//!
//! Invariant: pid 1 never returns. Whatever goes wrong is one line on the
//! console that begins with `emberbox-agent: FATAL:`, and then the VM is off.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::panic;
use std::process::ExitCode;

use emberbox_guest::PORT;
use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};

use crate::agent::Agent;
use crate::freezer;
use crate::sys::{self, Forked};
use crate::system::{Machine, System};

mod cmdline;
mod modules;
mod mounts;
mod network;

use cmdline::{Boot, CmdlineError};
pub(crate) use mounts::UPPER;

/// Open files of every process: enough for file watchers and servers, the
/// agent's own connections and pipes included.
const OPEN_FILES_SOFT: u64 = 65_536;

/// What a process may raise itself to: the kernel's own ceiling (`fs.nr_open`).
const OPEN_FILES_HARD: u64 = 1_048_576;

/// Threads for file calls that block: more than a host asks for at once, few
/// enough to cost nothing.
const BLOCKING_THREADS: usize = 8;

/// What the host looks for on the console of a probe VM.
const PROBE_OK: &str = "EMBERBOX-PROBE-OK";

/// Why a guest cannot boot.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("the kernel command line: {0}")]
    Cmdline(#[from] CmdlineError),
    #[error("cannot {doing}: {source}")]
    Step { doing: String, source: io::Error },
    #[error("the disk {0} did not appear")]
    NoDisk(String),
    #[error("the network device {0} did not appear")]
    NoNetwork(&'static str),
    #[error("the server ended {0}")]
    ServerEnded(String),
}

/// Names what failed.
trait Doing<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, BootError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl Into<String>) -> Result<T, BootError> {
        self.map_err(|error| BootError::Step {
            doing: doing.into(),
            source: error.into(),
        })
    }
}

/// Runs pid 1. Returns in the server's process only.
pub fn run() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        eprintln!("emberbox-agent: FATAL: {info}");
        if std::process::id() == 1 {
            power_off();
        }
    }));
    let Err(error) = boot();
    eprintln!("emberbox-agent: FATAL: {error}");
    if std::process::id() == 1 {
        power_off();
    }
    ExitCode::FAILURE
}

fn boot() -> Result<Infallible, BootError> {
    sys::set_umask();
    mounts::kernel_file_systems()?;
    let text = fs::read_to_string("/proc/cmdline").doing("read /proc/cmdline")?;
    let plan = match Boot::parse(&text)? {
        Boot::Probe => {
            println_console(PROBE_OK);
            power_off();
        }
        Boot::Run(plan) => plan,
    };
    modules::load_all()?;
    mounts::switch_to_root(plan.layers)?;
    network::configure(&plan)?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES_SOFT, OPEN_FILES_HARD)
        .doing("raise the limit of open files")?;
    freezer::enter_own_group().doing("enter a group of its own")?;
    // Before the fork, so that both processes have what it sets.
    let system = System::new("/", Machine::Own).doing("set the out-of-memory score")?;
    match sys::fork_single_threaded().doing("fork the server")? {
        Forked::Parent { child } => reap(child),
        Forked::Child => {
            // Its descriptor is that of pid 1's score.
            drop(system);
            let system = System::new("/", Machine::Own).doing("set the out-of-memory score")?;
            serve(system)
        }
    }
}

/// Mounts the scratch disk, on which [`UPPER`] is, at `target` as well.
pub(crate) fn mount_scratch(target: &str) -> io::Result<()> {
    let text = fs::read_to_string("/proc/cmdline")?;
    let mounted = match Boot::parse(&text).map_err(io::Error::other)? {
        Boot::Run(plan) => mounts::scratch_again(plan.layers, target),
        Boot::Probe => return Err(io::ErrorKind::NotFound.into()),
    };
    mounted.map_err(io::Error::other)
}

fn serve(system: System) -> Result<Infallible, BootError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .doing("start the runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))
            .await
            .doing("listen")?;
        Agent::new(system).serve(listener).await.doing("serve")
    })
}

/// Takes in every orphan of the guest until the server ends.
fn reap(server: i32) -> Result<Infallible, BootError> {
    loop {
        match sys::wait(None) {
            Ok((pid, status)) if pid == server => {
                return Err(BootError::ServerEnded(format!("with {status}")));
            }
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error).doing("wait for the server"),
        }
    }
}

/// Ends the VM. Where a machine cannot be switched off (Firecracker has no
/// power button), a reboot ends it: hosts start no guest twice.
fn power_off() -> ! {
    let mode = match fs::read_to_string("/proc/cmdline") {
        Ok(text) if cmdline::ends_by_reboot(&text) => RebootMode::RB_AUTOBOOT,
        Ok(_) | Err(_) => RebootMode::RB_POWER_OFF,
    };
    let _ = reboot(mode);
    // The kernel refused; pid 1 still must not end.
    loop {
        std::thread::park();
    }
}

/// Standard output of pid 1 is the console.
fn println_console(line: &str) {
    use std::io::Write;
    let mut console = io::stdout();
    // There is nobody else to tell.
    let _ = writeln!(console, "{line}");
    let _ = console.flush();
}
