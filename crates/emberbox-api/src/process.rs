//! Background processes.

use std::collections::BTreeMap;

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What `POST …/processes` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StartProcess {
    /// Shell command to run.
    #[schema(required)]
    pub command: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Working directory; `/root` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The clients' name of `working_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Seconds until it is killed; never when absent or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Another name of `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<i64>,
    /// Variables of this process only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

/// A background process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Its process id in the sandbox.
    pub pid: u32,
    /// Where it runs.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// The name it was given.
    pub name: Option<String>,
    /// Its command; the first 4 KiB of it.
    pub command: String,
    /// Whether it runs.
    pub status: ProcessStatus,
    /// Its exit code once it has ended; 128 plus the number of the signal that
    /// ended it, 124 when it ran over its time.
    pub exit_code: Option<i32>,
    /// When it was started, by the sandbox's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Time>,
    /// When it ended, by the sandbox's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Time>,
    /// Bytes it has written so far to standard output and error.
    pub output_bytes: u64,
}

/// Whether a background process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessStatus {
    /// It runs.
    Running,
    /// It has ended.
    Exited,
}

/// What `POST …/processes/{pid}/signal` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SignalProcess {
    /// A signal's name (`SIGTERM`) or number.
    #[schema(required, value_type = String)]
    pub signal: serde_json::Value,
}

/// What `POST …/processes/{pid}/stdin` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WriteProcess {
    /// Text for its standard input.
    pub data: String,
    /// Bytes for its standard input in base64, in place of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// Whether to close its standard input after it.
    pub close: bool,
}
