//! Memory files: a seed's, which can be mapped but not written, and a guest's
//! own.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::disk;
use crate::engine::EngineError;

/// The name of a seed's memory, as `/proc/PID/maps` shows it.
pub(super) const SEED_MEMORY: &str = "emberbox-seed";

/// The name of memory that belongs to one guest alone.
pub(super) const OWN_MEMORY: &str = "emberbox-memory";

/// A seed's memory in the host's memory, sealed: any number of VMs map it
/// privately, and nobody — not even a VMM that was taken over — can change it.
/// Only touched pages take room.
#[derive(Debug)]
pub(super) struct SealedMemory(File);

impl SealedMemory {
    /// Loads and seals a seed's memory file.
    pub(super) fn load(source: &File) -> io::Result<Self> {
        let memory = sealable(SEED_MEMORY)?;
        disk::copy_sparse(source, &memory)?;
        seal(&memory)?;
        Ok(Self(memory))
    }

    /// A descriptor to pass to a VMM.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
}

/// Empty memory for one guest: shared with its VMM and nobody else, so that a
/// checkpoint can see which pages there are. Its size is fixed.
pub(super) fn own(bytes: u64) -> io::Result<File> {
    let memory = sealable(OWN_MEMORY)?;
    memory.set_len(bytes)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW;
    fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}

/// The first `length` bytes of a kernel image.
pub(super) fn kernel_header(kernel: &Path, length: u64) -> Result<OwnedFd, EngineError> {
    let read = || {
        let mut header = sealable("emberbox-kernel-header")?;
        io::copy(&mut File::open(kernel)?.take(length), &mut header)?;
        seal(&header)?;
        Ok(header.into())
    };
    read().map_err(|e: io::Error| EngineError::host("cannot read the kernel's header", e))
}

fn sealable(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(memfd_create(name, flags)?))
}

fn seal(memory: &File) -> io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    Ok(fcntl_add_seals(memory, seals)?)
}
