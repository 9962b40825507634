//! Snapshots on disk: written whole or not at all, and never believed unread.
//!
//! ```text
//! DATA/snapshots/ID.unfinished/   being written; removed when the host opens
//!                ID/manifest.json what it is, and a digest of every file
//!                  /memory        pages that were the VM's own
//!                  /base          the seed's memory under them: a link
//!                  /state         devices
//!                  /scratch.ext4  the disk at that moment
//!                ID.deleted/      on its way out; removed when the host opens
//! ```
//!
//! Invariants: what has its final name is complete, on the platter, and never
//! written again; a snapshot of a VM that was to end (`"after": "end"`) is the
//! end of that VM: from the moment it is complete, its life is not taken up
//! again, whether or not its processes still run.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use emberbox_core::{SandboxId, Shape, SnapshotId, VmId};
use emberbox_runtime::disk::{self, FileId};
use emberbox_runtime::{BootImages, CheckpointFiles};

use crate::host::{AfterSnapshot, HostError};

mod digest;
mod manifest;

pub(crate) use manifest::{After, Manifest};
use manifest::{FileFacts, Files, Unreadable};

const MANIFEST: &str = "manifest.json";
const SCRATCH: &str = "scratch.ext4";
const UNFINISHED: &str = "unfinished";
const DELETED: &str = "deleted";

/// Digests of seeds that are remembered: more than a home keeps seeds.
const MAX_KNOWN: usize = 128;

/// The snapshots of one data directory.
pub(crate) struct Snapshots {
    root: PathBuf,
    /// What has to be equal for this host's engine to restore one.
    engine: String,
    /// Digests of seeds' memory, which many snapshots link to and nobody
    /// writes.
    known: Mutex<HashMap<FileId, FileFacts>>,
}

/// What a snapshot is of.
pub(crate) struct Subject {
    pub(crate) vm: VmId,
    pub(crate) sandbox: SandboxId,
    pub(crate) shape: Shape,
    pub(crate) images: BootImages,
    pub(crate) after: AfterSnapshot,
}

/// A complete snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    dir: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Snapshot {
    /// Its memory and devices.
    pub(crate) fn files(&self) -> CheckpointFiles {
        CheckpointFiles::in_dir(&self.dir)
    }

    /// Its disk.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    /// What a VM restored from it surely needs, in bytes: of memory, of disk.
    pub(crate) fn needs(&self) -> (u64, u64) {
        let disk = disk::allocated_bytes(&self.scratch()).unwrap_or(0);
        (self.manifest.files.memory.bytes, disk)
    }
}

impl Snapshots {
    /// Opens the snapshots of a data directory and removes what is none.
    pub(crate) fn open(data_dir: &Path, engine: String) -> io::Result<Self> {
        let root = data_dir.join("snapshots");
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(&root)? {
            let path = entry?.path();
            let left = path
                .extension()
                .is_some_and(|kind| kind == UNFINISHED || kind == DELETED);
            if left {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(Self {
            root,
            engine,
            known: Mutex::default(),
        })
    }

    /// A directory to write a snapshot in.
    pub(crate) fn draft(&self, id: &SnapshotId) -> io::Result<Draft> {
        let target = self.root.join(id.as_str());
        if target.try_exists()? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let dir = target.with_extension(UNFINISHED);
        fs::create_dir(&dir)?;
        Ok(Draft { dir, target })
    }

    /// Completes a draft: digests, manifest, all of it to the platter, then its
    /// name. Says what it takes on disk, in bytes. Blocks.
    pub(crate) fn complete(&self, draft: &Draft, subject: Subject) -> io::Result<u64> {
        let files = draft.files();
        let mut size = 0;
        let mut facts_of = |path: &Path| {
            let file = File::open(path)?;
            file.sync_all()?;
            size += disk::allocated_bytes(path)?;
            FileFacts::of(&file)
        };
        let written = Files {
            memory: facts_of(&files.memory)?,
            state: facts_of(&files.state)?,
            scratch: facts_of(&draft.scratch())?,
            base: match File::open(&files.base) {
                Ok(base) => {
                    base.sync_all()?;
                    // A link takes nothing.
                    if base.metadata()?.nlink() == 1 {
                        size += disk::allocated_bytes(&files.base)?;
                    }
                    Some(self.facts_of_seed(&base)?)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        let manifest = Manifest::new(self.engine.clone(), subject, written);
        let path = draft.dir.join(MANIFEST);
        fs::write(&path, manifest.to_json()?)?;
        File::open(&path)?.sync_all()?;
        File::open(&draft.dir)?.sync_all()?;
        size += disk::allocated_bytes(&path)?;
        fs::rename(&draft.dir, &draft.target)?;
        File::open(&self.root)?.sync_all()?;
        Ok(size)
    }

    /// The snapshot of this id, if a VM of this shape can be restored from it
    /// here. Its files are still to be verified.
    pub(crate) fn find(&self, id: &SnapshotId, shape: Shape) -> Result<Snapshot, HostError> {
        let dir = self.root.join(id.as_str());
        let manifest = match fs::read(dir.join(MANIFEST)) {
            Ok(bytes) => Manifest::from_json(&bytes).map_err(|unreadable| match unreadable {
                Unreadable::Damaged => damaged("its manifest was changed"),
                Unreadable::Version(version) => HostError::IncompatibleSnapshot(format!(
                    "it is of format {version}, this host writes {}",
                    manifest::VERSION
                )),
            })?,
            Err(_) if !dir.is_dir() => return Err(HostError::UnknownSnapshot(id.clone())),
            Err(error) => return Err(damaged(format_args!("its manifest: {error}"))),
        };
        let unfit = |what: String| Err(HostError::IncompatibleSnapshot(what));
        if manifest.engine != self.engine {
            return unfit(format!(
                "it was taken with \"{}\", this host has \"{}\"",
                manifest.engine, self.engine
            ));
        }
        if manifest.shape != shape {
            return unfit(format!("it is of {}, not {shape}", manifest.shape));
        }
        let BootImages { kernel, layers, .. } = &manifest.images;
        if !layers.iter().chain([kernel]).all(|image| image.is_file()) {
            return unfit("an image it was taken with is not installed".to_owned());
        }
        Ok(Snapshot { dir, manifest })
    }

    /// Reads every file and compares it with the manifest. Blocks.
    pub(crate) fn verify(&self, snapshot: &Snapshot) -> Result<(), HostError> {
        let files = snapshot.files();
        let expected = &snapshot.manifest.files;
        let check = |path: &Path, expected: &FileFacts, seed: bool| {
            let name = path.file_name().unwrap_or_default().display();
            let found = File::open(path).and_then(|file| match seed {
                true => self.facts_of_seed(&file),
                false => FileFacts::of(&file),
            });
            match found {
                Ok(found) if found == *expected => Ok(()),
                Ok(_) => Err(damaged(format_args!("{name} is not what was written"))),
                Err(error) => Err(damaged(format_args!("{name}: {error}"))),
            }
        };
        check(&files.memory, &expected.memory, false)?;
        check(&files.state, &expected.state, false)?;
        check(&snapshot.scratch(), &expected.scratch, false)?;
        match &expected.base {
            Some(base) => check(&files.base, base, true),
            None if files.base.exists() => Err(damaged("base is one file too many")),
            None => Ok(()),
        }
    }

    /// Every complete snapshot.
    pub(crate) fn list(&self) -> io::Result<Vec<SnapshotId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            ids.extend(name.to_str().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }

    /// Removes one. Idempotent; whole or not at all, also when interrupted.
    pub(crate) fn delete(&self, id: &SnapshotId) -> io::Result<()> {
        let dir = self.root.join(id.as_str());
        let going = dir.with_extension(DELETED);
        match fs::rename(&dir, &going) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        File::open(&self.root)?.sync_all()?;
        fs::remove_dir_all(going)
    }

    /// The VMs whose life ended with a snapshot.
    pub(crate) fn ended(&self) -> io::Result<HashSet<VmId>> {
        let ended = self
            .manifests()?
            .filter(|manifest| manifest.after == After::End);
        Ok(ended.map(|manifest| manifest.vm).collect())
    }

    /// The layers that snapshots need to be restored.
    pub(crate) fn layers(&self) -> io::Result<Vec<PathBuf>> {
        let images = self.manifests()?.map(|manifest| manifest.images);
        Ok(images.flat_map(|images| images.layers).collect())
    }

    /// Those that can be read.
    fn manifests(&self) -> io::Result<impl Iterator<Item = Manifest>> {
        Ok(self.list()?.into_iter().filter_map(|id| {
            let bytes = fs::read(self.root.join(id.as_str()).join(MANIFEST)).ok()?;
            Manifest::from_json(&bytes).ok()
        }))
    }

    /// Reads a seed's memory only once, however many snapshots link to it.
    fn facts_of_seed(&self, base: &File) -> io::Result<FileFacts> {
        let id = FileId::of(base)?;
        let known = || self.known.lock().expect("no panic while held");
        if let Some(facts) = known().get(&id) {
            return Ok(facts.clone());
        }
        let facts = FileFacts::of(base)?;
        let mut known = known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(id, facts.clone());
        Ok(facts)
    }
}

/// A snapshot that is being written; dropped unfinished, it leaves nothing.
pub(crate) struct Draft {
    dir: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Where memory and devices go.
    pub(crate) fn files(&self) -> CheckpointFiles {
        CheckpointFiles::in_dir(&self.dir)
    }

    /// Where the disk goes.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // A complete one has another name by now.
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "an unfinished snapshot is left for the next start");
        }
    }
}

fn damaged(what: impl std::fmt::Display) -> HostError {
    HostError::DamagedSnapshot(what.to_string())
}

#[cfg(test)]
mod tests;
