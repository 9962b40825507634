//! Where images live, and how a file gets its final name.
//!
//! Invariants: a build holds the lock of its directory; it writes under
//! temporary names only; whoever takes the lock next removes what is left
//! under such names. A final name appears by one atomic rename.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::ImageError;
use crate::progress::Progress;

/// The start of every temporary name.
const TEMPORARY: &str = ".tmp-";

const DIRECTORIES: [&str; 10] = [
    "kernels",
    "initramfs",
    "rootfs",
    "seeds",
    "probe",
    "packages",
    "builds",
    "blobs",
    "fetch",
    "locks",
];

/// The directory that holds all images and seeds of a machine
/// (`EMBERBOX_HOME`). Any number of processes may use one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens the home at `path`, and makes it if it is not there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let root = std::path::absolute(path).map_err(ImageError::io("resolve", path))?;
        for name in DIRECTORIES {
            let dir = root.join(name);
            fs::create_dir_all(&dir).map_err(ImageError::io("create", &dir))?;
        }
        Ok(Self { root })
    }

    /// `EMBERBOX_HOME`; else `/var/lib/emberbox` for root and
    /// `$XDG_DATA_HOME/emberbox` for others.
    #[must_use]
    pub fn default_path() -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(home) = set("EMBERBOX_HOME") {
            return home.into();
        }
        if rustix::process::geteuid().is_root() {
            return "/var/lib/emberbox".into();
        }
        if let Some(data) = set("XDG_DATA_HOME") {
            return Path::new(&data).join("emberbox");
        }
        let user = set("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        user.join(".local/share/emberbox")
    }

    /// The directory itself; absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Unpacked guest kernels.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    /// Built initramfs archives.
    #[must_use]
    pub fn initramfs(&self) -> PathBuf {
        self.root.join("initramfs")
    }

    /// Root file systems, and the templates made of them.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.root.join("rootfs")
    }

    /// Memory snapshots of booted templates. Their keeper is the host.
    #[must_use]
    pub fn seeds(&self) -> PathBuf {
        self.root.join("seeds")
    }

    /// What was found out about this machine. Its keeper is the runtime.
    #[must_use]
    pub fn probe(&self) -> PathBuf {
        self.root.join("probe")
    }

    /// Work space of the package tools; empty between builds.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    /// Parts of base images as registries gave them. Any of them may go.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Files of images on their way from an artifact source.
    #[must_use]
    pub fn fetch(&self) -> PathBuf {
        self.root.join("fetch")
    }

    /// Which files of images were read and found to be whole.
    pub(crate) fn verified(&self) -> PathBuf {
        self.root.join("verified.json")
    }

    /// Where builds of templates work; what is here is of one that goes on.
    #[must_use]
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// Waits for the lock called `name` and holds it until the guard is
    /// dropped or the process ends.
    pub fn lock(&self, name: &str) -> Result<Lock, ImageError> {
        let (file, path) = self.lock_file(name)?;
        file.lock().map_err(ImageError::io("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Takes the lock called `name`; none if somebody has it.
    pub fn try_lock(&self, name: &str) -> Result<Option<Lock>, ImageError> {
        let (file, path) = self.lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(ImageError::io("lock", &path)(source)),
        }
    }

    fn lock_file(&self, name: &str) -> Result<(File, PathBuf), ImageError> {
        let path = self.root.join("locks").join(format!("{name}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::io("open", &path))?;
        Ok((file, path))
    }

    /// Begins a build in one of this home's directories: waits for its lock
    /// and removes what a killed build left there.
    pub(crate) fn workshop(
        &self,
        directory: &'static str,
        progress: &dyn Progress,
    ) -> Result<Workshop, ImageError> {
        let (file, path) = self.lock_file(directory)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.step("waiting for another build");
                file.lock().map_err(ImageError::io("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(ImageError::io("lock", &path)(source)),
        }
        let workshop = Workshop {
            dir: self.root.join(directory),
            _lock: Lock { _file: file },
        };
        workshop.sweep()?;
        Ok(workshop)
    }
}

/// Holds a lock of a [`Home`].
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Of a file that is locked.
    pub(crate) fn of(file: File) -> Self {
        Self { _file: file }
    }
}

/// A directory in which this process alone builds now. Dropping it removes
/// everything that has not been published.
pub(crate) struct Workshop {
    dir: PathBuf,
    _lock: Lock,
}

impl Workshop {
    /// Where to build what will be called `name`.
    pub(crate) fn temporary(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{TEMPORARY}{name}"))
    }

    /// A new, empty directory to build in.
    pub(crate) fn temporary_dir(&self, name: &str) -> Result<PathBuf, ImageError> {
        let path = self.temporary(name);
        fs::create_dir(&path).map_err(ImageError::io("create", &path))?;
        Ok(path)
    }

    /// Gives a finished file or directory its final name. What is there
    /// already under that name stays if it is a directory, and is replaced if
    /// it is a file: both have the same content.
    pub(crate) fn publish(&self, temporary: &Path, name: &str) -> Result<PathBuf, ImageError> {
        let published = self.dir.join(name);
        sync(temporary)?;
        if !published.is_dir() {
            fs::rename(temporary, &published).map_err(ImageError::io("rename", temporary))?;
        }
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(ImageError::io("sync", &self.dir))?;
        Ok(published)
    }

    /// Publishes `bytes` as the file `name`.
    pub(crate) fn publish_bytes(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, ImageError> {
        let temporary = self.temporary(name);
        fs::write(&temporary, bytes).map_err(ImageError::io("write", &temporary))?;
        self.publish(&temporary, name)
    }

    /// Removes something temporary that is not needed any more.
    pub(crate) fn discard(&self, temporary: &Path) -> Result<(), ImageError> {
        remove(temporary)
    }

    fn sweep(&self) -> Result<(), ImageError> {
        let entries = fs::read_dir(&self.dir).map_err(ImageError::io("list", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(ImageError::io("list", &self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next build.
        if let Err(error) = self.sweep() {
            tracing::warn!(dir = %self.dir.display(), %error, "a build's leftovers stay");
        }
    }
}

/// Removes a file or a tree. Refuses a tree with something mounted in it:
/// removing the host's own /dev through a forgotten mount cannot be undone.
fn remove(path: &Path) -> Result<(), ImageError> {
    let removed = if path.is_dir() && !path.is_symlink() {
        if let Some(mount) = mount_below(path)? {
            return Err(ImageError::Io {
                doing: format!("remove {}", path.display()),
                source: std::io::Error::other(format!("{mount} is mounted; unmount it")),
            });
        }
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(ImageError::io("remove", path))
}

fn mount_below(path: &Path) -> Result<Option<String>, ImageError> {
    const TABLE: &str = "/proc/self/mountinfo";
    let real = path
        .canonicalize()
        .map_err(ImageError::io("resolve", path))?;
    let table = fs::read_to_string(TABLE).map_err(ImageError::io("read", Path::new(TABLE)))?;
    // The mount point is the fifth field; a space in it is written as \040.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points
        .map(|point| point.replace("\\040", " "))
        .find(|point| Path::new(point).starts_with(&real)))
}

/// Makes a file, or every file of a directory, read-only for all and durable.
fn sync(path: &Path) -> Result<(), ImageError> {
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(ImageError::io("list", path))? {
            sync(&entry.map_err(ImageError::io("list", path))?.path())?;
        }
    } else {
        // VMMs run as other users and open these themselves.
        fs::set_permissions(path, fs::Permissions::from_mode(0o444))
            .map_err(ImageError::io("protect", path))?;
    }
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(ImageError::io("sync", path))
}

#[cfg(test)]
mod tests;
