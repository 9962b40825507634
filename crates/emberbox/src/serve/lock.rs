//! A data directory belongs to one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A data directory that is ours until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another process has it.
    #[error("the data directory {0} is in use by another emberbox")]
    InUse(String),
    /// It cannot be made or opened.
    #[error("cannot open the data directory {path}")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory if need be and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let shown = || path.display().to_string();
        let failed = |source| DataDirError::Open {
            path: shown(),
            source,
        };
        let path_absolute = std::path::absolute(path).map_err(failed)?;
        // It holds the database and the disks of every tenant.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path_absolute)
            .map_err(failed)?;
        fs::set_permissions(&path_absolute, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path_absolute.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path_absolute,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(shown())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
