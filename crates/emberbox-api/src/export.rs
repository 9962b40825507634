//! Files to take out of a sandbox.

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `POST …/exports` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateExport {
    /// An absolute path of a file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Several of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What the download is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

/// Where files can be downloaded. Nothing is stored: a download reads the
/// sandbox as it is then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Export {
    /// A name for this description.
    pub id: String,
    /// Which sandbox.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Always `ready`.
    pub status: String,
    /// As it was given.
    pub label: Option<String>,
    /// Each of them.
    pub files: Vec<ExportedFile>,
    /// All of them as one `tar.gz`; a path on this server.
    pub archive_download_url: String,
}

/// One of an export's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportedFile {
    /// Its path in the sandbox.
    pub path: String,
    /// What its download is called.
    pub filename: String,
    /// Whether it is a directory, which comes as a `tar.gz`.
    pub is_dir: bool,
    /// Its size in bytes; of a file.
    pub size: Option<u64>,
    /// A path on this server.
    pub download_url: String,
}
