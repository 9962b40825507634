//! Files inside a sandbox.

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What `POST …/files` takes as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadRequest {
    /// Absolute destination path.
    pub path: String,
    /// The content in base64.
    pub content: String,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uploaded {
    /// Where.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What `POST …/files/stat` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StatRequest {
    /// Absolute path.
    #[schema(required)]
    pub path: String,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (only in listings).
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// Metadata of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileInfo {
    /// Its last component.
    pub name: String,
    /// Its absolute path.
    pub path: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits in octal, for example `0644`.
    pub mode: String,
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Last change of its content.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Time,
}

/// One entry of a listing; the same as a stat.
pub type FileEntry = FileInfo;

/// A directory's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The directory.
    pub path: String,
    /// Its entries, sorted by path.
    pub entries: Vec<FileInfo>,
    /// Whether there are more than the limit shows.
    pub truncated: bool,
}

/// What `POST …/files/write-many` and `…/files/batch` take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WriteMany {
    /// The files.
    #[schema(required)]
    pub files: Vec<FileToWrite>,
}

/// One file of a [`WriteMany`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FileToWrite {
    /// Absolute destination path.
    #[schema(required)]
    pub path: String,
    /// The content in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Another name of `content_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// What became of the files of a [`WriteMany`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrittenMany {
    /// Those that stand under their names.
    pub written: Vec<WrittenFile>,
    /// Those that could not be written; nothing of them is left.
    pub failed: Vec<FailedFile>,
}

/// A file of a [`WriteMany`] that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrittenFile {
    /// Its path.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// A file of a [`WriteMany`] that could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedFile {
    /// Its path.
    pub path: String,
    /// Why.
    pub error: String,
    /// The same as a code of the catalogue.
    pub code: String,
}

/// A directory with all that is below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tree {
    /// The top.
    #[serde(flatten)]
    pub root: TreeNode,
    /// Whether there is more than the limit shows.
    pub truncated: bool,
}

/// One path of a [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeNode {
    /// Its last component.
    pub name: String,
    /// Its absolute path.
    pub path: String,
    /// `dir`, `file`, `symlink` or `other`.
    #[serde(rename = "type")]
    pub kind: TreeKind,
    /// Size in bytes.
    pub size: u64,
    /// Last change of its content.
    #[schema(value_type = String, format = DateTime)]
    pub modified_at: Time,
    /// What is in a directory, as deep as was asked for; by name.
    #[schema(no_recursion)]
    pub children: Vec<TreeNode>,
}

/// What a path of a [`Tree`] is; the clients' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TreeKind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}
