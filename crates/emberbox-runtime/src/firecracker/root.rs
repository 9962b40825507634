//! A jailed Firecracker's root: where it is, what is shown in it, and what is
//! taken out of it.
//!
//! ```text
//! DIR/jail/PROGRAM/ID/root   the jailer's own layout
//!   api.sock                 the VMM's
//!   out/                     the VMM's: where it writes snapshots
//!   kernel initramfs layer0… scratch state memory   shown files
//! ```
//!
//! Invariant: the VMM's user may write the root, so nothing in it is opened by
//! a path: only names in an open directory, and never through a link.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open, openat};

use crate::engine::{EngineError, VmPlace, VmSpec};
use crate::jail::{Access, ShownFile};

/// Where the jailer builds its roots, in a VM's directory.
const BASE: &str = "jail";

/// The directory snapshots are written to.
const OUT: &str = "out";

/// Names as the VMM sees them.
pub(super) const KERNEL: &str = "/kernel";
pub(super) const INITRAMFS: &str = "/initramfs";
pub(super) const SCRATCH: &str = "/scratch";
pub(super) const STATE: &str = "/state";
pub(super) const MEMORY: &str = "/memory";
pub(super) const SECCOMP: &str = "/seccomp";
pub(super) const OUT_STATE: &str = "/out/state";
pub(super) const OUT_MEMORY: &str = "/out/memory";

/// The name of a layer's disk, and of its file.
pub(super) fn layer(index: usize) -> String {
    format!("layer{index}")
}

/// A place's root, there or not.
#[derive(Debug, Clone)]
pub(super) struct Root {
    base: PathBuf,
    /// The directory itself.
    pub(super) path: PathBuf,
    /// The VM's id as Firecracker takes it: letters, digits and hyphens.
    pub(super) id: String,
}

impl Root {
    /// Where the root of a VMM that is started from `program` will be.
    pub(super) fn of(place: &VmPlace, program: &Path) -> Self {
        let name = program.file_name().unwrap_or_default();
        Self::named(place, Path::new(name))
    }

    /// The root that is there, whichever program it was made for.
    pub(super) fn find(place: &VmPlace) -> io::Result<Option<Self>> {
        let entries = match fs::read_dir(place.dir.join(BASE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let found = Self::named(place, Path::new(&entry?.file_name()));
            if found.path.is_dir() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn named(place: &VmPlace, program: &Path) -> Self {
        let base = place.dir.join(BASE);
        let id = place.id.as_str().replace('_', "-");
        let path = base.join(program).join(&id).join("root");
        Self { base, path, id }
    }

    /// What the jailer is told.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Makes it, empty but for the directory the VMM writes to.
    pub(super) fn make(&self, uid: u32) -> io::Result<()> {
        let private = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
        };
        private(&self.path)?;
        let out = self.path.join(OUT);
        private(&out)?;
        chown(&out, Some(uid), Some(uid))
    }

    /// Makes it another place's, and leaves nothing in the first. Who has it
    /// open or runs in it goes on.
    pub(super) fn move_to(&self, from: &VmPlace, to: &VmPlace) -> io::Result<Self> {
        let program = self.path.ancestors().nth(2).and_then(Path::file_name);
        let moved = Self::named(to, Path::new(program.unwrap_or_default()));
        let (own, new) = (self.path.parent(), moved.path.parent());
        let (Some(own), Some(new)) = (own, new) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if let Some(above) = new.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(above)?;
        }
        fs::rename(own, new)?;
        fs::remove_dir_all(from.dir.join(BASE))?;
        Ok(moved)
    }

    /// Opens it.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        Ok(open(&self.path, DIRECTORY, Mode::empty())?)
    }

    /// Removes everything of a place. Idempotent.
    pub(super) fn remove(place: &VmPlace) -> Result<(), EngineError> {
        match fs::remove_dir_all(place.dir.join(BASE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::host("cannot remove the jail", error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directory a VMM writes its snapshots to.
pub(super) struct Out(OwnedFd);

impl Out {
    /// In an open root.
    pub(super) fn open(root: impl AsFd) -> io::Result<Self> {
        Ok(Self(openat(root, OUT, DIRECTORY, Mode::empty())?))
    }

    /// Opens a file the VMM wrote: a regular one, and no link to another.
    pub(super) fn file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let facts = file.metadata()?;
        if !facts.is_file() || facts.nlink() != 1 {
            return Err(io::Error::other(format!(
                "the VMM's {name} is not a file of its own"
            )));
        }
        Ok(file)
    }

    /// Makes a file for the VMM to write to: for the user whose directory this
    /// is. The root above it becomes that user's only when the jailer gets to it.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        let uid = fstat(&self.0)?.st_uid;
        std::os::unix::fs::fchown(&file, Some(uid), Some(uid))?;
        Ok(file)
    }

    /// Removes a file that need not be there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What every VM is shown: its layers and its own disk, which becomes its
/// user's.
pub(super) fn disks(spec: &VmSpec) -> Result<Vec<ShownFile>, EngineError> {
    let uid = spec.slot.uid();
    chown(&spec.scratch, Some(uid), Some(uid))
        .map_err(|e| EngineError::host("cannot hand over the scratch disk", e))?;
    let layers = spec.images.layers.iter().enumerate();
    let mut files: Vec<_> = layers
        .map(|(index, path)| shown(path, &layer(index), Access::Read))
        .collect();
    files.push(shown(&spec.scratch, SCRATCH, Access::Write));
    Ok(files)
}

/// A file under its name as the VMM sees it.
pub(super) fn shown(source: &Path, name: &str, access: Access) -> ShownFile {
    ShownFile {
        source: source.to_owned(),
        name: name.trim_start_matches('/').to_owned(),
        access,
    }
}

/// Lets every VMM that is shown a file of a snapshot read it, whichever user
/// it is, and nobody else on the host: the file opens, its directory closes.
pub(super) fn open_to_vmms(file: &Path) -> Result<(), EngineError> {
    let change = || {
        let parent = file.parent().unwrap_or(Path::new("/"));
        fs::set_permissions(parent, fs::Permissions::from_mode(0o700))?;
        let mode = fs::metadata(file)?.mode() | 0o444;
        fs::set_permissions(file, fs::Permissions::from_mode(mode))
    };
    change().map_err(|e: io::Error| {
        EngineError::host(format!("cannot open {} to VMMs", file.display()), e)
    })
}

#[cfg(test)]
mod tests;
