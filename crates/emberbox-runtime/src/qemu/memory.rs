//! Memory files that can be mapped but not written.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::disk;
use crate::engine::EngineError;

/// A seed's memory in the host's memory, sealed: any number of VMs map it
/// privately, and nobody — not even a VMM that was taken over — can change it.
/// Only touched pages take room.
#[derive(Debug)]
pub(super) struct SealedMemory(File);

impl SealedMemory {
    /// Loads and seals a seed's memory file.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let source = File::open(path)?;
        let memory = sealable("emberbox-seed")?;
        disk::copy_sparse(&source, &memory)?;
        seal(&memory)?;
        Ok(Self(memory))
    }

    /// A descriptor to pass to a VMM.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone().map(OwnedFd::from)
    }
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
