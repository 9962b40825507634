//! What a host and the agent inside a guest say to each other.
//!
//! Decides: the messages, their framing and their limits.
//! Must not know: VMs, the store, HTTP.
//!
//! One TCP connection carries one call at a time and is reused after a call
//! that ended cleanly. Closing it early *is* the cancellation: the agent kills
//! the command or drops the half-written file. Back-pressure is TCP's own.
//!
//! ```text
//! host                               agent
//!  │ Call { token, Exec }  ─────────▶ │
//!  │ ◀───────── Started { pid }       │
//!  │ ◀───────── Output { stdout, … }  │   (as it is written)
//!  │ ◀───────── Exited(Code(0))       │   connection is free again
//! ```
//!
//! Invariant: an unclaimed agent answers only [`Request::Ping`],
//! [`Request::PrepareSeed`] and [`Request::Claim`]; a claimed one only calls
//! that carry its token. [`Request::Revive`] exchanges it for another.

pub mod frame;
pub mod message;
pub mod process;
pub mod terminal;
mod token;
pub mod watch;

#[cfg(feature = "client")]
pub mod client;

pub use message::{
    App, Entry, ExecSpec, ExitStatus, Export, FileKind, FileStat, FromAgent, GuestError,
    GuestErrorCode, Identity, ListSpec, NewName, OutputStream, Pong, Rehearsal, Request, Revival,
    ToAgent, WriteSpec,
};
pub use process::{ProcessEnd, ProcessInfo, ProcessRequest, ProcessSpec};
pub use terminal::{TerminalRequest, TerminalSize, TerminalSpec};
pub use token::Token;
pub use watch::{ChangeKind, FileChange, WatchEvent, WatchSpec};

/// The protocol's generation. A host refuses an agent of another one: seeds
/// and running guests outlive an upgrade of the server.
pub const GENERATION: u16 = 3;

/// The TCP port the agent listens on. Below 1024, where no user's app lives;
/// the preview proxy refuses it.
pub const PORT: u16 = 871;
