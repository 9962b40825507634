//! Files that were read and found to be what they should be.
//!
//! ```text
//! HOME/verified.json   which, as they were then, in which boot of the machine
//! ```
//!
//! A file is read once while the machine runs, whichever server of the home
//! does it, and again when anything was done to it since. What a power cut took
//! from a file does not show in its times: after a boot all are read again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::{Artifact, file};
use crate::built;
use crate::error::ImageError;
use crate::home::Home;
use crate::record::{read_json, to_json};

/// Files that are remembered: more than a home's images have. Beyond, all are
/// forgotten and read again.
const MAX: usize = 4096;

/// Serialises changes of the record.
const LOCK: &str = "verified";

/// Another one after each start of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Tells one content of a file from another: writing and replacing change it.
/// Links do not, and the time of change is not part of it for their sake: every
/// VM links the memory of its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let facts = fs::metadata(path)?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

/// A file as it was when it was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Verified {
    stamp: Stamp,
    sha256: String,
}

/// What outlives a server.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot: String,
    files: BTreeMap<PathBuf, Verified>,
}

/// A file this process knows.
#[derive(Debug)]
struct Found {
    verified: Verified,
    /// All there is to say of it; not of what another process read.
    artifact: Option<Arc<Artifact>>,
}

/// What is known of files.
#[derive(Debug)]
pub(super) struct Known {
    home: Home,
    files: Mutex<HashMap<PathBuf, Found>>,
}

impl Known {
    /// With what was found in this boot of the machine. Blocks.
    pub(super) fn open(home: &Home) -> Self {
        let files = match recorded(home) {
            Ok(Some(record)) => record.files,
            Ok(None) => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(%error, "which files were read is not known; they are read again");
                BTreeMap::new()
            }
        };
        let found = files.into_iter().map(|(path, verified)| {
            let artifact = None;
            (path, Found { verified, artifact })
        });
        Self {
            home: home.clone(),
            files: Mutex::new(found.collect()),
        }
    }

    /// Describes a file, or says what is known of it. Blocks.
    pub(super) fn describe(&self, path: &Path, name: &str) -> io::Result<Arc<Artifact>> {
        let stamp = Stamp::of(path)?;
        let known = self.find(path, stamp, |found| found.artifact.clone());
        if let Some(Some(known)) = known
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
        self.find(path, stamp, |found| {
            found.verified.sha256 == artifact.sha256
        })
        .unwrap_or(false)
    }

    fn find<T>(&self, path: &Path, stamp: Stamp, say: impl FnOnce(&Found) -> T) -> Option<T> {
        let files = self.files.lock().expect("no panic while it is held");
        let found = files.get(path)?;
        (found.verified.stamp == stamp).then(|| say(found))
    }

    fn keep(&self, path: &Path, stamp: Stamp, artifact: &Arc<Artifact>) {
        let verified = Verified {
            stamp,
            sha256: artifact.sha256.clone(),
        };
        {
            let mut files = self.files.lock().expect("no panic while it is held");
            if files.len() >= MAX {
                files.clear();
            }
            let found = Found {
                verified: verified.clone(),
                artifact: Some(Arc::clone(artifact)),
            };
            files.insert(path.to_owned(), found);
        }
        // Without it the next server reads the file again.
        if let Err(error) = self.record(path, verified) {
            tracing::warn!(%error, "that a file was read is not recorded");
        }
    }

    fn record(&self, path: &Path, verified: Verified) -> Result<(), ImageError> {
        let _lock = self.home.lock(LOCK)?;
        let mut record = match recorded(&self.home) {
            Ok(Some(record)) => record,
            Ok(None) | Err(ImageError::Damaged { .. }) => Record {
                boot: boot()?,
                files: BTreeMap::new(),
            },
            Err(error) => return Err(error),
        };
        // Files that went or changed are nothing to remember.
        let is_as_it_was = |path: &PathBuf, then: &mut Verified| {
            Stamp::of(path).is_ok_and(|stamp| stamp == then.stamp)
        };
        record.files.retain(is_as_it_was);
        if record.files.len() >= MAX {
            record.files.clear();
        }
        record.files.insert(path.to_owned(), verified);
        built::write(&self.home.verified(), &to_json(&record))
    }
}

/// What was found in this boot of the machine.
fn recorded(home: &Home) -> Result<Option<Record>, ImageError> {
    let Some(record) = read_json::<Record>(&home.verified())? else {
        return Ok(None);
    };
    Ok((record.boot == boot()?).then_some(record))
}

fn boot() -> Result<String, ImageError> {
    let path = Path::new(BOOT_ID);
    let id = fs::read_to_string(path).map_err(ImageError::io("read", path))?;
    Ok(id.trim().to_owned())
}
