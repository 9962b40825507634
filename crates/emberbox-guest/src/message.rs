//! Every message on the wire, encoded with postcard inside a [`frame`](crate::frame).

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::process::{ProcessInfo, ProcessRequest};
use crate::terminal::{TerminalRequest, TerminalSize};
use crate::token::Token;
use crate::watch::{WatchEvent, WatchSpec};

/// A frame from the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Begins a call.
    Call {
        /// The guest's token ([`Token::UNCLAIMED`] before the claim).
        token: Token,
        /// What is asked.
        request: Request,
    },
    /// Bytes of the call's input: file content, or a command's stdin.
    Data(Bytes),
    /// The input is complete. Without it a file is dropped.
    End,
    /// The size of who looks at a terminal has changed.
    Resize(TerminalSize),
}

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Answers [`FromAgent::Pong`].
    Ping,
    /// Gives an unclaimed guest its identity; answers [`FromAgent::Done`]
    /// when everything of it is in force.
    Claim(Identity),
    /// Runs the shell and language runtimes once and writes dirty pages back,
    /// so that a memory snapshot taken now restores warm; with an app, starts
    /// it first and waits until it is ready. Unclaimed only. Answers
    /// [`FromAgent::Done`].
    PrepareSeed(Option<App>),
    /// Runs a command: [`FromAgent::Started`], any number of
    /// [`FromAgent::Output`], then [`FromAgent::Exited`].
    Exec(ExecSpec),
    /// Opens a file for writing: [`FromAgent::Done`] once its bytes can be
    /// taken. They follow in `Data` frames; at `End` the file stands under its
    /// name, atomically, and [`FromAgent::Written`] answers. An agent that
    /// fails in between reads on to `End` before it says so, so that the
    /// connection stays in step.
    WriteFile(WriteSpec),
    /// Answers [`FromAgent::Stat`], then `Data` frames, then
    /// [`FromAgent::End`]. A directory is an error.
    ReadFile {
        /// Absolute path.
        path: String,
    },
    /// Answers any number of [`FromAgent::Entries`], then [`FromAgent::End`].
    List(ListSpec),
    /// Answers [`FromAgent::Stat`]; follows a symbolic link at the end.
    Stat {
        /// Absolute path.
        path: String,
    },
    /// Writes all dirty pages to the scratch disk. Answers [`FromAgent::Done`].
    Sync,
    /// Connects to a server of the guest's own. After [`FromAgent::Done`] the
    /// connection carries that server's bytes, both ways and each way's end by
    /// itself, and never frames again.
    Connect {
        /// The TCP port on the guest's loopback.
        port: u16,
    },
    /// About background processes.
    Process(ProcessRequest),
    /// About terminals.
    Terminal(TerminalRequest),
    /// Watches a directory: [`FromAgent::Done`] once nothing is missed any
    /// more, then any number of [`FromAgent::Changes`], until the directory
    /// itself is gone ([`FromAgent::End`]) or the connection closes.
    Watch(WatchSpec),
    /// Begins a new life of a guest that was restored from a snapshot of
    /// itself, with the token of its old one; answers [`FromAgent::Done`] when
    /// everything is in force and connections that led outside are reset.
    /// Processes and terminals go on, held ones too.
    Revive(Revival),
    /// Holds every process of the user's until [`Request::Thaw`] or
    /// [`Request::Revive`]; new ones wait. Answers [`FromAgent::Held`] when
    /// they stand still.
    Freeze {
        /// When it was asked for, nanoseconds since the Unix epoch. A call
        /// that a later `Thaw` has overtaken does nothing.
        asked_unix_ns: u64,
    },
    /// Lets go what is held, if anything is, and sets the clock, which stood
    /// still with the vCPUs. Answers [`FromAgent::Done`].
    Thaw {
        /// Wall clock, nanoseconds since the Unix epoch.
        unix_time_ns: u64,
    },
    /// Kills every process but the agent's own, then sends files as a tar
    /// archive: `Data` frames, then [`FromAgent::End`]. The guest is of no use
    /// for anything else afterwards.
    Export(Export),
    /// Gives the guest other variables, all of them: every process that starts
    /// from now on sees these. Answers [`FromAgent::Done`].
    SetEnvironment(Vec<(String, String)>),
    /// Goes through a claim and a command once, so that the ones to come find
    /// everything in place; nothing of either stays. Unclaimed only. Answers
    /// [`FromAgent::Done`].
    Rehearse(Rehearsal),
}

/// Which files an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Export {
    /// What differs from the layers the guest booted from, in overlayfs' own
    /// form: a character device 0:0 for what is gone, and its attributes.
    Changes,
    /// The whole root file system as a process sees it.
    Everything,
}

/// What makes a restored guest this sandbox and no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The token every later call must carry.
    pub token: Token,
    /// Host name, also put into `/etc/hosts` and `/etc/hostname`.
    pub hostname: String,
    /// `/etc/machine-id`.
    pub machine_id: [u8; 16],
    /// Variables every process of the sandbox sees.
    pub env: Vec<(String, String)>,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub unix_time_ns: u64,
    /// Fresh bytes for the kernel's random pool; credited as full entropy.
    pub entropy: [u8; 32],
    /// The MTU of the path to the outside.
    pub mtu: u16,
}

/// What a guest without an identity can be given all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Wall clock, nanoseconds since the Unix epoch.
    pub unix_time_ns: u64,
    /// Fresh bytes for the kernel's random pool; credited as full entropy.
    pub entropy: [u8; 32],
    /// The MTU of the path to the outside.
    pub mtu: u16,
}

/// What tells the lives of one guest apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revival {
    /// The token every later call must carry; the old one opens nothing more.
    pub token: Token,
    /// Its name, if it is to be another sandbox than it was.
    pub name: Option<NewName>,
    /// Variables every new process of the sandbox sees; the old ones go.
    pub env: Vec<(String, String)>,
    /// Wall clock, nanoseconds since the Unix epoch.
    pub unix_time_ns: u64,
    /// Fresh bytes for the kernel's random pool; credited as full entropy.
    pub entropy: [u8; 32],
    /// The MTU of the path to the outside.
    pub mtu: u16,
}

/// What a guest is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewName {
    /// Host name, also put into `/etc/hosts` and `/etc/hostname`.
    pub hostname: String,
    /// `/etc/machine-id`.
    pub machine_id: [u8; 16],
}

/// A command to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Given to `/bin/bash -c` (`/bin/sh -c` where there is no bash).
    pub command: String,
    /// Absolute working directory.
    pub cwd: String,
    /// Variables of this command only; they win over the sandbox's own.
    pub env: Vec<(String, String)>,
    /// After this many milliseconds the whole process group is killed.
    pub timeout_ms: u64,
    /// Whether `Data` frames follow for its stdin; `/dev/null` otherwise.
    pub stdin: bool,
}

/// What a template runs for its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Runs it. Its `timeout_ms` is 0: none.
    pub start: ExecSpec,
    /// Exits with 0 once it is ready; without it, it is when it has been
    /// started. Its `timeout_ms` is for one try.
    pub ready: Option<ExecSpec>,
    /// How long it may take until it is ready, in milliseconds.
    pub patience_ms: u64,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSpec {
    /// Absolute path; missing parents are made.
    pub path: String,
    /// Permission bits; an existing file's own, else 0644, when absent.
    pub mode: Option<u32>,
    /// More bytes than this are refused and nothing is left behind.
    pub limit: u64,
}

/// A directory to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSpec {
    /// Absolute path of a directory.
    pub path: String,
    /// 1 lists the directory itself, 2 also its children's children, …
    pub depth: u32,
    /// No more entries than this; [`FromAgent::End`] says if some were cut.
    pub limit: u32,
}

/// A frame from the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromAgent {
    /// Answer to a ping.
    Pong(Pong),
    /// The call is done and has nothing else to say.
    Done,
    /// The command was started.
    Started {
        /// Its process id (and process group) in the guest.
        pid: u32,
    },
    /// Output as the command wrote it.
    Output {
        /// Which of the two.
        stream: OutputStream,
        /// The bytes, at most [`CHUNK`].
        data: Bytes,
    },
    /// The command ended; the call is done.
    Exited(ExitStatus),
    /// The file stands under its name; the call is done.
    Written {
        /// Its size in bytes.
        size: u64,
    },
    /// What a path is.
    Stat(FileStat),
    /// File content, at most [`FILE_CHUNK`] bytes.
    Data(Bytes),
    /// Some entries of a listing, at most [`ENTRIES_PER_FRAME`].
    Entries(Vec<Entry>),
    /// The stream of this call is complete.
    End {
        /// Whether a limit cut it.
        truncated: bool,
    },
    /// The call failed; it is done.
    Failed(GuestError),
    /// What is known of a background process.
    Process(ProcessInfo),
    /// Output of a background process.
    Log {
        /// Where it begins, counted over both streams from the start.
        offset: u64,
        /// Which of the two.
        stream: OutputStream,
        /// The bytes, at most [`CHUNK`].
        data: Bytes,
    },
    /// What happened in a directory, at most
    /// [`CHANGES_PER_FRAME`](crate::watch::CHANGES_PER_FRAME).
    Changes(Vec<WatchEvent>),
    /// Every process of the user's stands still; the call is done.
    Held {
        /// How long the first of them has been held, in nanoseconds.
        for_ns: u64,
    },
}

/// Most bytes in one `Data` or `Output` frame.
pub const CHUNK: usize = 64 * 1024;

/// Most bytes in one `Data` frame of a file that is read: each costs the guest
/// two switches of threads. The other way larger ones gained nothing.
pub const FILE_CHUNK: usize = 256 * 1024;

/// Most entries in one [`FromAgent::Entries`].
pub const ENTRIES_PER_FRAME: usize = 256;

/// An agent's word about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Its protocol generation.
    pub generation: u16,
    /// Whether it has an identity.
    pub claimed: bool,
    /// Nanoseconds from the kernel's start to the agent's readiness.
    pub ready_after_ns: u64,
}

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ran over its time and its process group was killed.
    TimedOut,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (only in listings: a stat follows it).
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// Metadata of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// The path that was asked for.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits (0o7777).
    pub mode: u32,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Last change of content, nanoseconds since the Unix epoch.
    pub modified_unix_ns: i64,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name in its directory (invalid UTF-8 replaced).
    pub name: String,
    /// Its metadata; `path` is absolute.
    pub stat: FileStat,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct GuestError {
    /// The class of the failure.
    pub code: GuestErrorCode,
    /// For people; names the path, never its content.
    pub message: String,
}

impl GuestError {
    /// An error of this class.
    pub fn new(code: GuestErrorCode, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }
}

/// Classes of failure, one per distinct public answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestErrorCode {
    /// The token is not this guest's.
    Unauthorized,
    /// The guest has no identity yet.
    Unclaimed,
    /// The guest has an identity already.
    AlreadyClaimed,
    /// A frame that does not belong here.
    Protocol,
    /// The path does not exist.
    NotFound,
    /// Not absolute, empty, with a NUL byte, or longer than the kernel takes.
    InvalidPath,
    /// A directory where a file is needed.
    IsADirectory,
    /// A file where a directory is needed.
    NotADirectory,
    /// Neither file nor directory, or otherwise unusable for this call.
    Unsupported,
    /// The guest's kernel refused.
    PermissionDenied,
    /// The scratch disk is full.
    NoSpace,
    /// More bytes than the call allowed.
    TooLarge,
    /// The working directory is not there.
    NoSuchCwd,
    /// The command could not be started.
    Spawn,
    /// Anything else the guest's kernel said.
    Io,
    /// Nothing accepts connections on the port.
    ConnectionRefused,
    /// The guest has as many of these as it may have at a time.
    LimitReached,
    /// No background process of this id is known.
    NoSuchProcess,
    /// The background process has ended.
    ProcessEnded,
    /// No terminal of this id is open.
    NoSuchTerminal,
}
