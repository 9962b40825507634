//! Watching a directory for changes.

use serde::{Deserialize, Serialize};

/// Most directories one call watches: what Linux lets a user watch on a small
/// machine (`fs.inotify.max_user_watches`), about 8 MiB of kernel memory.
pub const WATCHED_DIRECTORIES: usize = 8192;

/// Most calls that watch at a time: the guest's own programs need most of the
/// 128 instances Linux gives a user (`fs.inotify.max_user_instances`).
pub const WATCHERS: usize = 16;

/// Longest path of a change in bytes: Linux's limit for the directory and a
/// name in it, with every byte replaced by the three of U+FFFD.
pub const PATH_MAX: usize = 3 * (4096 + 256);

/// Most changes in one frame: two of the longest paths each still fit.
pub const CHANGES_PER_FRAME: usize = 64;

/// A directory to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    /// Absolute path of a directory.
    pub path: String,
    /// Whether everything below it counts as well, also directories that are
    /// made later. Other file systems below it and what symbolic links lead
    /// to do not.
    pub recursive: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchEvent {
    /// A path changed.
    Changed(FileChange),
    /// More happened than could be told: whoever keeps a picture of the
    /// directory has to look at it again.
    Overflow,
}

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// What happened.
    pub kind: ChangeKind,
    /// Where (invalid UTF-8 replaced).
    pub path: String,
    /// Whether it is or was a directory.
    pub is_dir: bool,
    /// Size of a file in bytes, when it was told; absent when it was gone by
    /// then.
    pub size: Option<u64>,
}

/// What can happen to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It is new here: made, or moved in from elsewhere.
    Created,
    /// Its content changed.
    Modified,
    /// It is gone: removed, or moved elsewhere.
    Deleted,
    /// It was moved within what is watched.
    Renamed {
        /// Its path before.
        from: String,
    },
}
