//! Scratch disks on the host: cloned without copying what is not there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{SeekFrom, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How a clone was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneMethod {
    /// The file system shares the blocks until one side writes.
    Reflink,
    /// Only allocated ranges were copied.
    SparseCopy,
}

/// Clones `source` into the new file `target` (mode 0600), sparse, by reflink
/// where the file system can. A failure leaves no target.
pub fn clone(source: &Path, target: &Path) -> io::Result<CloneMethod> {
    let from = File::open(source)?;
    let to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)?;
    let cloned = clone_into(&from, &to);
    if cloned.is_err() {
        let _ = std::fs::remove_file(target);
    }
    cloned
}

/// Tells one content of a file from any other: links have it in common, and a
/// file that was written since has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl FileId {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

/// Bytes a file really takes on disk.
pub fn allocated_bytes(path: &Path) -> io::Result<u64> {
    /// The unit of `st_blocks`, whatever the file system's own block size (stat(2)).
    const STAT_BLOCK: u64 = 512;
    Ok(std::fs::metadata(path)?.blocks() * STAT_BLOCK)
}

/// Moves a file, across file systems if need be.
pub fn move_file(source: &Path, target: &Path) -> io::Result<()> {
    match std::fs::rename(source, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            clone(source, target)?;
            std::fs::remove_file(source)
        }
        moved => moved,
    }
}

/// Copies the allocated ranges of one open file into another, hole for hole.
pub fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut position = 0;
    while position < length {
        let start = match seek(from.as_fd(), SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from.as_fd(), SeekFrom::Hole(start))?;
        copy_range(from, to, start, end)?;
        position = end;
    }
    Ok(())
}

/// Clones one open file into another, which is empty.
pub fn clone_into(from: &File, to: &File) -> io::Result<CloneMethod> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(CloneMethod::Reflink),
        // Not this file system, or not across two of them.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => {
            copy_sparse(from, to)?;
            Ok(CloneMethod::SparseCopy)
        }
        Err(error) => Err(error.into()),
    }
}

/// Copies an open file into another, with holes where it holds only zeros.
pub fn copy_without_zeros(from: &File, to: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    /// The block size of every file system that is likely: smaller zeros make
    /// no hole.
    const BLOCK: usize = 4096;
    /// Read at once: large enough that the system calls cost nothing.
    const READ: usize = 64 * BLOCK;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; READ];
    let mut position = 0;
    while position < length {
        let want = usize::try_from(length - position).map_or(READ, |left| left.min(READ));
        from.read_exact_at(&mut buffer[..want], position)?;
        // Neighbours are written together.
        let blocks: Vec<_> = buffer[..want].chunks(BLOCK).collect();
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let bytes = run.concat();
            if !is_zero(&bytes) {
                to.write_all_at(&bytes, position)?;
            }
            position += bytes.len() as u64;
        }
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let left = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), left);
        match copied {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Older kernels refuse between some file systems.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP) => {
                return copy_by_hand(from, to, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    /// Large enough that the system call costs nothing beside the copy.
    const BLOCK: usize = 256 * 1024;
    let mut buffer = vec![0; BLOCK];
    let mut position = start;
    while position < end {
        let want = usize::try_from(end - position).map_or(BLOCK, |left| left.min(BLOCK));
        let got = from.read_at(&mut buffer[..want], position)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(&buffer[..got], position)?;
        position += got as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
