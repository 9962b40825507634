//! The directory of one build: what is in it was not published, and goes with
//! the build.
//!
//! Invariant: a directory whose lock can be taken belongs to nobody, so whoever
//! takes it removes what is left.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::built;
use crate::error::ImageError;
use crate::home::{Home, Lock};

/// Held while build directories come and go.
const LOCK: &str = "builds";

/// Names the image that a build has published and not yet vouched for.
const UNPROVEN: &str = "unproven";

const OWNED: &str = "lock";

/// The directory of a build that goes on. Dropping it removes it.
#[derive(Debug)]
pub struct BuildDir {
    path: PathBuf,
    _lock: Lock,
}

impl BuildDir {
    /// A new one; `build` is its name.
    pub fn create(home: &Home, build: &str) -> Result<Self, ImageError> {
        let _others_wait = home.lock(LOCK)?;
        let path = home.builds().join(build);
        fs::create_dir(&path).map_err(ImageError::io("create", &path))?;
        let lock = path.join(OWNED);
        let file = File::create(&lock).map_err(ImageError::io("create", &lock))?;
        file.lock().map_err(ImageError::io("lock", &lock))?;
        Ok(Self {
            path,
            _lock: Lock::of(file),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that `image` goes if this build does not come to its end.
    pub fn doubt(&self, image: &str) -> Result<(), ImageError> {
        let note = self.path.join(UNPROVEN);
        fs::write(&note, image).map_err(ImageError::io("write", &note))
    }

    /// The build vouches for what it published. Idempotent.
    pub fn vouch(&self) -> Result<(), ImageError> {
        let note = self.path.join(UNPROVEN);
        match fs::remove_file(&note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ImageError::io("remove", &note)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for BuildDir {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next start.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(dir = %self.path.display(), %error, "a build's directory stays");
        }
    }
}

/// Removes the directories of builds that have ended with their process; gives
/// the images that were in doubt.
pub fn sweep_builds(home: &Home) -> Result<Vec<String>, ImageError> {
    let _others_wait = home.lock(LOCK)?;
    let dir = home.builds();
    let mut doubted = Vec::new();
    for entry in fs::read_dir(&dir).map_err(ImageError::io("list", &dir))? {
        let path = entry.map_err(ImageError::io("list", &dir))?.path();
        // One that was killed before it had a lock is nobody's as well.
        if let Ok(lock) = File::open(path.join(OWNED))
            && lock.try_lock().is_err()
        {
            continue;
        }
        let pins = built::pins(&path)?;
        if !pins.is_empty() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            built::orphan(home, &name, &pins)?;
        }
        if let Ok(image) = fs::read_to_string(path.join(UNPROVEN)) {
            doubted.push(image);
        }
        fs::remove_dir_all(&path).map_err(ImageError::io("remove", &path))?;
    }
    Ok(doubted)
}
