//! A sandbox and its first command in one call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CreateSandbox, Sandbox};

/// What `POST /sandboxes/run` takes: what a create takes, and a command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunSandbox {
    /// What the sandbox is to be; `timeout_sec` is its life.
    #[serde(flatten)]
    pub create: CreateSandbox,
    /// What runs in it.
    #[serde(flatten)]
    pub first: FirstCommand,
}

/// The first command of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FirstCommand {
    /// Shell command to run.
    #[schema(required)]
    pub command: String,
    /// Working directory; `/root` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The clients' name of `working_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Seconds until the command is killed (default 30, at most 300).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// A sandbox and what its first command did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RanSandbox {
    /// The sandbox, which stays.
    #[serde(flatten)]
    pub sandbox: Sandbox,
    /// The command's standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// Its exit code; 128 plus the number of the signal that ended it.
    pub exit_code: i32,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Whether output was cut at the limit.
    pub truncated: bool,
}
