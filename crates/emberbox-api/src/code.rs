//! Code in interpreters that keep their variables.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `POST …/code/run` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunCode {
    /// What to run.
    #[schema(required)]
    pub code: String,
    /// `python` (when absent) or `javascript`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Which interpreter of that language; `default` when absent. Each has
    /// variables of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Seconds until the interpreter is killed and its variables with it
    /// (default 30, at most 300).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// What code did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CodeResult {
    /// Whether it ended without an error.
    pub ok: bool,
    /// What it wrote; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it complained about, the error that ended it included.
    pub stderr: String,
    /// The value of its last expression as JSON, or as text where it has none.
    pub result: serde_json::Value,
    /// The language.
    pub language: String,
    /// The interpreter.
    pub context: String,
    /// Whether output was cut at the limit.
    pub truncated: bool,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// The interpreters that run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CodeContexts {
    /// Their names.
    pub contexts: Vec<String>,
}
