//! Background processes: started by a call, but no call's own. They end by
//! themselves, by a signal or with the guest, and what they wrote is kept for
//! whoever asks later.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::{ExecSpec, ExitStatus};

/// Most background processes that run at a time: plenty for an app with its
/// workers, and its pipes and logs stay small beside the guest.
pub const LIVE_PROCESSES: usize = 64;

/// Most ended processes that are remembered; the oldest are forgotten first.
pub const ENDED_PROCESSES: usize = 64;

/// Most bytes kept of what a process wrote, both streams together.
pub const LOG_BYTES: usize = 1024 * 1024;

/// Longest command and name, in bytes, that [`ProcessInfo`] repeats: enough to
/// recognise it, and a whole list stays small.
pub const TEXT_SHOWN: usize = 4096;

/// A call about background processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ProcessRequest {
    /// Starts one; answers [`FromAgent::Process`](crate::FromAgent::Process).
    Start(ProcessSpec),
    /// Answers a [`FromAgent::Process`](crate::FromAgent::Process) for each in
    /// the order of their start, then [`FromAgent::End`](crate::FromAgent::End).
    List,
    /// Answers [`FromAgent::Process`](crate::FromAgent::Process).
    Get {
        /// Which one.
        pid: u32,
    },
    /// Sends a signal to its process group. Answers
    /// [`FromAgent::Done`](crate::FromAgent::Done).
    Signal {
        /// Which one.
        pid: u32,
        /// The signal's number on Linux, 1 to 64.
        signal: i32,
    },
    /// SIGTERM to its process group; SIGKILL to what is left of it when the
    /// process has ended or the grace is over. Answers
    /// [`FromAgent::Done`](crate::FromAgent::Done) once it has ended, also
    /// when it had before.
    Stop {
        /// Which one.
        pid: u32,
        /// Milliseconds between the two signals.
        grace_ms: u64,
    },
    /// Writes to its standard input. Answers
    /// [`FromAgent::Done`](crate::FromAgent::Done) when the bytes are taken,
    /// which may be before the process reads them.
    Input {
        /// Which one.
        pid: u32,
        /// The bytes.
        data: Bytes,
        /// Whether these are the last.
        close: bool,
    },
    /// Answers [`FromAgent::Done`](crate::FromAgent::Done), then
    /// what it wrote as [`FromAgent::Log`](crate::FromAgent::Log). A
    /// jump in the offsets is output that is no longer kept. At the end of the
    /// process [`FromAgent::Exited`](crate::FromAgent::Exited) follows; with
    /// `live` false, at the end of what there is now, also of a process that
    /// runs on, [`FromAgent::End`](crate::FromAgent::End).
    Follow {
        /// Which one.
        pid: u32,
        /// The first byte that is wanted, counted over both streams.
        from_offset: u64,
        /// Whether to go on with what it will write.
        live: bool,
    },
}

/// A background process to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// What to run. A `timeout_ms` of 0 is none; `stdin` says whether
    /// [`ProcessRequest::Input`] may be sent.
    pub exec: ExecSpec,
    /// For people.
    pub name: Option<String>,
}

/// What is known of a background process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its process id (and process group) in the guest.
    pub pid: u32,
    /// The name it was given, at most [`TEXT_SHOWN`] bytes of it.
    pub name: Option<String>,
    /// Its command, at most [`TEXT_SHOWN`] bytes of it.
    pub command: String,
    /// Its start by the guest's clock, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// How it ended and when; `None` while it runs.
    pub ended: Option<ProcessEnd>,
    /// Bytes it has written so far, kept or not.
    pub written: u64,
}

/// How a background process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// How.
    pub status: ExitStatus,
    /// When by the guest's clock, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}
