//! Files that were read and found to be what they should be.
//!
//! A file is read once in a process's life, and again when anything was done
//! to it since.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Artifact, file};

/// Files that are remembered: more than a home's images have. Beyond, all are
/// forgotten and read again.
const MAX: usize = 4096;

/// Tells one content of a file from another: writing, renaming and replacing
/// change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let facts = fs::metadata(path)?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }
}

/// What is known of files.
#[derive(Debug, Default)]
pub(super) struct Known {
    files: Mutex<HashMap<PathBuf, (Stamp, Arc<Artifact>)>>,
}

impl Known {
    /// Describes a file, or says what is known of it. Blocks.
    pub(super) fn describe(&self, path: &Path, name: &str) -> io::Result<Arc<Artifact>> {
        let stamp = Stamp::of(path)?;
        if let Some(known) = self.find(path, stamp)
            && known.path == name
        {
            return Ok(known);
        }
        let artifact = Arc::new(file::describe(path, name.to_owned())?);
        self.keep(path, stamp, &artifact);
        Ok(artifact)
    }

    /// Whether a file is what is said of it. Blocks.
    pub(super) fn is_as_described(&self, path: &Path, artifact: &Artifact) -> io::Result<bool> {
        let stamp = match Stamp::of(path) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if self.knows(path, stamp, artifact) {
            return Ok(true);
        }
        let same = file::is_as_described(path, artifact)?;
        if same {
            self.keep(path, stamp, &Arc::new(artifact.clone()));
        }
        Ok(same)
    }

    /// Whether that is known without reading anything.
    pub(super) fn is_known(&self, path: &Path, artifact: &Artifact) -> bool {
        Stamp::of(path).is_ok_and(|stamp| self.knows(path, stamp, artifact))
    }

    /// A file that was just written and read back.
    pub(super) fn learn(&self, path: &Path, artifact: &Artifact) -> io::Result<()> {
        self.keep(path, Stamp::of(path)?, &Arc::new(artifact.clone()));
        Ok(())
    }

    fn knows(&self, path: &Path, stamp: Stamp, artifact: &Artifact) -> bool {
        self.find(path, stamp)
            .is_some_and(|known| known.sha256 == artifact.sha256)
    }

    fn find(&self, path: &Path, stamp: Stamp) -> Option<Arc<Artifact>> {
        let files = self.files.lock().expect("no panic while it is held");
        let (then, artifact) = files.get(path)?;
        (*then == stamp).then(|| Arc::clone(artifact))
    }

    fn keep(&self, path: &Path, stamp: Stamp, artifact: &Arc<Artifact>) {
        let mut files = self.files.lock().expect("no panic while it is held");
        if files.len() >= MAX {
            files.clear();
        }
        files.insert(path.to_owned(), (stamp, Arc::clone(artifact)));
    }
}
