//! Which slots exist on this machine, and whose they are.
//!
//! An entry is a symbolic link `slots/<index>` that points to the name of its
//! instance: made in one step, only if it does not exist yet, and never half
//! written. It points nowhere on purpose.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

use super::{Instance, MAX_SLOTS, NetError, SlotIndex};

pub(super) struct Ledger {
    run_dir: PathBuf,
    instance: Instance,
    /// Where to look for a free index: going round keeps the addresses of a
    /// slot that just went out of use for as long as possible.
    next: AtomicU32,
}

impl Ledger {
    pub(super) fn open(run_dir: &Path, instance: Instance) -> Result<Self, NetError> {
        let slots = run_dir.join("slots");
        fs::create_dir_all(&slots).map_err(NetError::io(format!("make {}", slots.display())))?;
        Ok(Self {
            run_dir: run_dir.to_owned(),
            instance,
            next: AtomicU32::new(0),
        })
    }

    /// Records a new slot.
    pub(super) fn claim(&self) -> Result<SlotIndex, NetError> {
        for _ in 0..MAX_SLOTS {
            let index = SlotIndex(self.next.fetch_add(1, Ordering::Relaxed) % MAX_SLOTS);
            match symlink(self.instance.to_string(), self.entry(index)) {
                Ok(()) => return Ok(index),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(NetError::io(format!("record slot {index}"))(error)),
            }
        }
        Err(NetError::Exhausted)
    }

    /// Forgets a slot of ours. Idempotent.
    pub(super) fn release(&self, index: SlotIndex) -> Result<(), NetError> {
        if !self.owns(index)? {
            return Ok(());
        }
        absent_is_fine(fs::remove_file(self.entry(index)))
            .map_err(NetError::io(format!("forget slot {index}")))
    }

    /// Whether the slot is recorded as ours.
    pub(super) fn owns(&self, index: SlotIndex) -> Result<bool, NetError> {
        match fs::read_link(self.entry(index)) {
            Ok(owner) => Ok(owner == Path::new(&self.instance.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(NetError::io(format!("read the record of slot {index}"))(
                error,
            )),
        }
    }

    /// Every slot recorded as ours.
    pub(super) fn ours(&self) -> Result<Vec<SlotIndex>, NetError> {
        let slots = self.run_dir.join("slots");
        let list = || NetError::io(format!("list {}", slots.display()));
        let mut ours = Vec::new();
        for entry in fs::read_dir(&slots).map_err(list())? {
            let name = entry.map_err(list())?.file_name();
            let index = name.to_str().and_then(|name| name.parse().ok());
            if let Some(index) = index.map(SlotIndex)
                && self.owns(index)?
            {
                ours.push(index);
            }
        }
        Ok(ours)
    }

    /// Keeps other servers from changing what all of them share, until dropped.
    pub(super) fn lock_machine(&self) -> Result<Flock<fs::File>, NetError> {
        let path = self.run_dir.join("lock");
        let file = fs::File::create(&path).map_err(NetError::io("open the machine lock"))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_file, errno)| NetError::errno("take the machine lock")(errno))
    }

    fn entry(&self, index: SlotIndex) -> PathBuf {
        self.run_dir.join("slots").join(index.to_string())
    }
}

/// A removal that found nothing has done its work.
pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
