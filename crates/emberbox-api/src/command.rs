//! Commands with everything about them in one answer.

use std::collections::BTreeMap;

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `POST …/commands` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunCommand {
    /// Shell command to run.
    #[schema(required)]
    pub command: String,
    /// Working directory; a relative one is below `/root`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Seconds until it is killed (default 30, at most 600); a detached one is
    /// never killed when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// What it reads from its standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Answer at once and let it run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached: Option<bool>,
    /// A name for people; of a detached one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Variables of this command only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Not offered here: open a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// Not offered here: open a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactive: Option<bool>,
    /// Whether it runs as root, which it does unless `user` says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sudo: Option<bool>,
    /// The sandbox's user it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandResult {
    /// Where it ran.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its process id, of a detached one.
    pub pid: Option<u32>,
    /// `running` or `exited`.
    pub status: String,
    /// Its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// Its exit code; 128 plus the number of the signal that ended it, 124
    /// when it ran over its time, null while it runs.
    pub exit_code: Option<i32>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Whether it ran over its time and was killed.
    pub timed_out: bool,
    /// Whether output was cut at the limit.
    pub truncated: bool,
}
