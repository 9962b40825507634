//! Starting a process the cheap way.
//!
//! `posix_spawn` shares the agent's memory until the exec, so no page table is
//! copied; std takes that path only without a working directory in a static
//! binary, and cannot start a session.
#![expect(
    unsafe_code,
    reason = "posix_spawn with its attributes has no safe wrapper that sets a session and a directory"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;

use super::plain::Plain;

/// What a process is started with.
pub(crate) struct Process<'a> {
    pub(crate) program: Program<'a>,
    pub(crate) cwd: &'a CStr,
    pub(crate) environment: &'a [CString],
    pub(crate) stdio: Stdio<'a>,
}

/// What bash, or sh where there is no bash, is asked to do.
#[derive(Clone, Copy)]
pub(crate) enum Program<'a> {
    /// Run this command.
    Command(&'a CStr),
    /// Be a login shell.
    Login,
}

/// What the process has as its three descriptors.
#[derive(Clone, Copy)]
pub(crate) enum Stdio<'a> {
    Pipes {
        /// `/dev/null` when absent.
        stdin: Option<BorrowedFd<'a>>,
        stdout: BorrowedFd<'a>,
        stderr: BorrowedFd<'a>,
    },
    /// The terminal of this path, which becomes the controlling one of the
    /// new session.
    Terminal(&'a CStr),
}

/// Starts it in a session of its own, with default signals and no descriptor
/// but the three.
pub(crate) fn start(process: &Process<'_>) -> io::Result<i32> {
    if let Program::Command(command) = process.program
        && let Some(plain) = Plain::of(command, process.cwd, process.environment)
    {
        let arguments: Vec<_> = plain.arguments.iter().map(|word| &**word).collect();
        // Whatever is wrong with it, the shell says it.
        if let Ok(pid) = spawn(process, &plain.program, &arguments, &plain.environment) {
            return Ok(pid);
        }
    }
    match in_shell(process, c"/bin/bash", c"bash") {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            in_shell(process, c"/bin/sh", c"sh")
        }
        started => started,
    }
}

fn in_shell(process: &Process<'_>, shell: &CStr, name: &CStr) -> io::Result<i32> {
    match process.program {
        Program::Command(command) => {
            spawn(process, shell, &[name, c"-c", command], process.environment)
        }
        Program::Login => spawn(process, shell, &[name, c"-l"], process.environment),
    }
}

fn spawn(
    process: &Process<'_>,
    program: &CStr,
    arguments: &[&CStr],
    environment: &[CString],
) -> io::Result<i32> {
    let mut actions = Actions::new()?;
    match process.stdio {
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            match stdin {
                Some(stdin) => actions.dup(stdin.as_raw_fd(), libc::STDIN_FILENO)?,
                None => actions.open(c"/dev/null", libc::O_RDONLY)?,
            }
            actions.dup(stdout.as_raw_fd(), libc::STDOUT_FILENO)?;
            actions.dup(stderr.as_raw_fd(), libc::STDERR_FILENO)?;
        }
        Stdio::Terminal(path) => {
            // The session is new by then and has no terminal: the first one
            // it opens is its own.
            actions.open(path, libc::O_RDWR)?;
            actions.dup(libc::STDIN_FILENO, libc::STDOUT_FILENO)?;
            actions.dup(libc::STDIN_FILENO, libc::STDERR_FILENO)?;
        }
    }
    actions.chdir(process.cwd)?;
    let attributes = Attributes::new_session()?;
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| word.as_ptr())
        .chain([ptr::null()])
        .collect();
    let environment: Vec<_> = environment
        .iter()
        .map(|variable| variable.as_ptr())
        .chain([ptr::null()])
        .collect();
    let mut pid = 0;
    // SAFETY: every pointer is to a C string or a null-ended array of them that
    // outlives the call, which only reads them despite the `*mut` of its C
    // declaration; actions and attributes are initialised.
    checked(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            arguments.as_ptr().cast(),
            environment.as_ptr().cast(),
        )
    })?;
    Ok(pid)
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: init fills it, or fails and it is not used.
        unsafe {
            checked(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Ok(Self(actions.assume_init()))
        }
    }

    fn dup(&mut self, from: libc::c_int, to: libc::c_int) -> io::Result<()> {
        // SAFETY: initialised; a descriptor that is not open only fails.
        checked(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    /// Opens a path as standard input.
    fn open(&mut self, path: &CStr, flags: libc::c_int) -> io::Result<()> {
        let this = &raw mut self.0;
        // SAFETY: initialised; the path is copied.
        checked(unsafe {
            libc::posix_spawn_file_actions_addopen(
                this,
                libc::STDIN_FILENO,
                path.as_ptr(),
                flags,
                0,
            )
        })
    }

    fn chdir(&mut self, path: &CStr) -> io::Result<()> {
        // SAFETY: initialised; the path is copied.
        checked(unsafe {
            libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, path.as_ptr())
        })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised, and destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A new session, no signal blocked, every signal at its default: Rust
    /// ignores SIGPIPE and a command must not inherit that.
    fn new_session() -> io::Result<Self> {
        // All of them are below 2^15.
        let signals_too = (libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK) as i16;
        let flags = libc::POSIX_SPAWN_SETSID | signals_too;
        let mut attributes = MaybeUninit::uninit();
        let mut signals = MaybeUninit::uninit();
        // SAFETY: each init fills what follows uses, or fails and it is not
        // used.
        unsafe {
            checked(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut attributes = Self(attributes.assume_init());
            let this = &raw mut attributes.0;
            libc::sigemptyset(signals.as_mut_ptr());
            checked(libc::posix_spawnattr_setsigmask(this, signals.as_ptr()))?;
            libc::sigfillset(signals.as_mut_ptr());
            checked(libc::posix_spawnattr_setsigdefault(this, signals.as_ptr()))?;
            checked(libc::posix_spawnattr_setflags(this, flags))?;
            Ok(attributes)
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised, and destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// These functions return the error instead of setting it.
fn checked(error: libc::c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
