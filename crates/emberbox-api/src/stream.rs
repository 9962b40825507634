//! What server-sent events carry.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// Which output of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputName {
    /// The name of the event that carries it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Data of a `stdout` or `stderr` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputLine {
    /// The event's name once more: one of the clients drops it.
    #[serde(rename = "type")]
    pub stream: OutputName,
    /// The line without its `\n`; bytes that are not UTF-8 are replaced.
    pub line: String,
    /// False when no `\n` followed: the line was cut because it was too long,
    /// or output ended without one. Left out otherwise.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub newline: bool,
    /// Of a background process: where to read on after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// Data of an `exit` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExitData {
    /// As a shell would report it.
    pub exit_code: i32,
}

/// Data of an `error` event that ends a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamError {
    /// A code of the catalogue.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Data of a `gap` event: output that is no longer kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// How many bytes.
    pub missed: u64,
    /// Where to read on after them.
    pub offset: u64,
}

/// Data of a `log` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// One line of the log.
    pub line: String,
}

/// Data of a `state_changed` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateChanged {
    /// The state it is in.
    pub state: String,
    /// The one before.
    pub previous_state: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Time,
}

/// Data of an `exec_output` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecOutput {
    /// Which command.
    pub exec_id: String,
    /// Which of its outputs.
    pub stream: OutputName,
    /// A piece of text, not necessarily whole lines.
    pub data: String,
    /// When it was seen.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Time,
}

/// Data of an `error` event of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SandboxError {
    /// For people.
    pub message: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Time,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileEventKind {
    /// It is new here: made, or moved in from elsewhere.
    Created,
    /// Its content changed.
    Modified,
    /// It is gone: removed, or moved elsewhere.
    Deleted,
    /// It was moved within what is watched.
    Renamed,
    /// Of the watched directory: more happened than could be told. Whoever
    /// keeps a picture of it has to look at it again.
    Overflow,
}

impl FileEventKind {
    /// The name of the event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Overflow => "overflow",
        }
    }
}

/// Data of an event of a watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileEvent {
    /// What happened.
    pub event: FileEventKind,
    /// The same: the clients differ in the name they read.
    #[serde(rename = "type")]
    pub kind: FileEventKind,
    /// Its absolute path.
    pub path: String,
    /// Whether it is or was a directory.
    pub is_dir: bool,
    /// Its path before it was renamed.
    pub old_path: Option<String>,
    /// Size of a file that is still there.
    pub size_bytes: Option<u64>,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_true(value: &bool) -> bool {
    *value
}
