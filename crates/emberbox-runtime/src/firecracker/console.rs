//! A guest's console and Firecracker's log: both go to its standard output.
//!
//! That is a named pipe in the VM's directory. It outlives this process, holds
//! no more than the kernel's 64 KiB while nobody reads, and never makes the
//! VMM wait, which writes to it without blocking and drops what does not fit.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;

use crate::engine::VmPlace;
use crate::vmm::console;

/// The pipe's name in a VM's directory.
pub(super) const FILE: &str = "console";

/// Text that is kept: enough for a panic with its trace.
const KEPT: usize = 64 * 1024;

/// Read at once.
const CHUNK: usize = 4096;

/// Looked at again with every chunk: a line may be cut in two.
const OVERLAP: usize = 64;

/// The last of what Firecracker logs when it ends well.
const ENDED_WELL: &str = "Firecracker exiting successfully";

/// The reading end, and what was read lately.
pub(super) struct Console {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
}

impl Console {
    /// Opens the pipe of a place; makes it if there is none.
    pub(super) fn open(place: &VmPlace) -> io::Result<Self> {
        let path = path(place);
        match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // With a writer of its own a reader never sees an end.
        let pipe = pipe::OpenOptions::new()
            .read_write(true)
            .open_receiver(path)?;
        Ok(Self {
            pipe,
            kept: Vec::new(),
        })
    }

    /// What a VMM is to have as its standard output.
    pub(super) fn writer(place: &VmPlace) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(path(place))
    }

    /// Resolves when the guest is down although its machine runs on.
    /// Cancel-safe.
    pub(super) async fn down(&mut self) {
        loop {
            if self.pipe.readable().await.is_err() {
                // Nothing more can be heard; the process's end still can.
                std::future::pending().await
            }
            while let Ok(Some(new)) = self.take(|pipe, chunk| pipe.try_read(chunk)) {
                let from = self.kept.len().saturating_sub(new + OVERLAP);
                if console::is_down(&String::from_utf8_lossy(&self.kept[from..])) {
                    return;
                }
            }
        }
    }

    /// All that was said lately.
    pub(super) fn text(&mut self) -> String {
        // What the runtime knows of the pipe may be older than what is in it.
        let at_once = |pipe: &pipe::Receiver, chunk: &mut [u8]| Ok(rustix::io::read(pipe, chunk)?);
        while let Ok(Some(_)) = self.take(at_once) {}
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    /// Whether the VMM itself said that it ended as it should.
    pub(super) fn ended_well(&mut self) -> bool {
        self.text().contains(ENDED_WELL)
    }

    /// Reads what is there; how many bytes.
    fn take(
        &mut self,
        read: impl FnOnce(&pipe::Receiver, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let mut chunk = [0; CHUNK];
        let count = match read(&self.pipe, &mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        self.kept.extend_from_slice(&chunk[..count]);
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
        Ok(Some(count))
    }
}

fn path(place: &VmPlace) -> PathBuf {
    place.dir.join(Path::new(FILE))
}

#[cfg(test)]
mod tests;
