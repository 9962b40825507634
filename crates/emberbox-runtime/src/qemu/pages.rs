//! The pages of a guest that are its own: found, written to a file, put back.
//!
//! ```text
//! file: magic · bytes of guest memory · number of runs · runs · padding · pages
//! ```
//!
//! Which pages a file holds is listed, not read off its holes: what a file
//! system reports as a hole depends on its block size, and a page of zeros is
//! not one that was never written.
//!
//! Invariants: never more pages than the guest has memory, whatever the VMM's
//! process looks like; a list is in order and without overlaps.

use std::fs::File;
use std::io::{self, BufWriter, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::FileExt;

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

mod mapping;
mod scan;

pub(super) use mapping::{Mapping, Sharing};

/// Bytes of a page (x86-64; the only machine QEMU is started for here).
pub(super) const PAGE: u64 = 4096;

/// Names the format of the file, version included.
const MAGIC: [u8; 8] = *b"EBPAGE01";

/// Magic, bytes of memory, number of runs.
const HEADER: u64 = 24;

/// First page and number of pages.
const RUN: u64 = 16;

/// Pages that are moved at once: large enough that the system calls cost
/// nothing beside the copy, small enough to stay in the processor's cache.
const BATCH_PAGES: u64 = 256;

/// Ranges one call of process_vm_readv(2) takes (`IOV_MAX`) are more than a
/// batch has pages, so a batch is always one call.
const _: () = assert!(BATCH_PAGES <= 1024);

/// Pages that lie beside each other in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) count: u64,
}

/// Writes the pages of a stopped guest that are its own into `file`.
pub(super) fn save(mapping: &Mapping, file: &File) -> io::Result<()> {
    let (pid, memory) = (mapping.pid, mapping.memory);
    match mapping.sharing() {
        Sharing::Private => {
            let runs = mapping.private_runs()?;
            write(file, memory, &runs, |batch, buffer| {
                let mut local = [IoSliceMut::new(buffer)];
                let got = process_vm_readv(Pid::from_raw(pid), &mut local, &mapping.remote(batch))?;
                whole(got, buffer.len())
            })
        }
        Sharing::Shared => {
            let source = mapping.open()?;
            let runs = data_runs(&source, memory)?;
            write(file, memory, &runs, |batch, mut buffer| {
                for run in batch {
                    let (page, rest) = buffer.split_at_mut(bytes(run.count));
                    source.read_exact_at(page, run.first * PAGE)?;
                    buffer = rest;
                }
                Ok(())
            })
        }
    }
}

/// Puts saved pages into the memory of a VMM whose guest has not run yet.
pub(super) fn load_into_process(file: &File, pid: i32, memory: u64) -> io::Result<()> {
    let mapping = Mapping::find(pid, memory)?;
    read(file, memory, |batch, buffer| {
        let local = [IoSlice::new(buffer)];
        let put = process_vm_writev(Pid::from_raw(pid), &local, &mapping.remote(batch))?;
        whole(put, buffer.len())
    })
}

/// Puts saved pages into a file that is to become guest memory.
pub(super) fn load_into_file(file: &File, target: &File, memory: u64) -> io::Result<()> {
    read(file, memory, |batch, mut buffer| {
        for run in batch {
            let (page, rest) = buffer.split_at(bytes(run.count));
            target.write_all_at(page, run.first * PAGE)?;
            buffer = rest;
        }
        Ok(())
    })
}

fn write(
    file: &File,
    memory: u64,
    runs: &[Run],
    mut fetch: impl FnMut(&[Run], &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut header = BufWriter::new(file);
    header.write_all(&MAGIC)?;
    header.write_all(&memory.to_le_bytes())?;
    header.write_all(&(runs.len() as u64).to_le_bytes())?;
    for run in runs {
        header.write_all(&run.first.to_le_bytes())?;
        header.write_all(&run.count.to_le_bytes())?;
    }
    header.flush()?;
    let mut position = pages_begin(runs.len() as u64);
    let mut buffer = vec![0; bytes(BATCH_PAGES)];
    for batch in batches(runs) {
        let buffer = &mut buffer[..bytes(pages_of(&batch))];
        fetch(&batch, buffer)?;
        file.write_all_at(buffer, position)?;
        position += buffer.len() as u64;
    }
    // A guest without a page of its own still has a whole header.
    file.set_len(position)
}

fn read(
    file: &File,
    memory: u64,
    mut put: impl FnMut(&[Run], &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let runs = read_runs(file, memory)?;
    let mut position = pages_begin(runs.len() as u64);
    let mut buffer = vec![0; bytes(BATCH_PAGES)];
    for batch in batches(&runs) {
        let buffer = &mut buffer[..bytes(pages_of(&batch))];
        file.read_exact_at(buffer, position)?;
        put(&batch, buffer)?;
        position += buffer.len() as u64;
    }
    Ok(())
}

/// The list of a file, which must fit its length and the guest's memory.
fn read_runs(mut file: &File, memory: u64) -> io::Result<Vec<Run>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if header[..8] != MAGIC {
        return Err(bad("not a file of memory pages"));
    }
    if number(8) != memory {
        return Err(bad("the pages are of a guest with other memory"));
    }
    let count = number(16);
    // Runs do not touch, so there are at most half as many as pages, and one.
    if count > memory / PAGE / 2 + 1 {
        return Err(bad("more runs of pages than memory"));
    }
    let mut list = vec![0; bytes_of_runs(count)];
    file.read_exact(&mut list)?;
    let (mut runs, mut next, mut pages) = (Vec::new(), 0, 0);
    for entry in list.chunks_exact(RUN as usize) {
        let (first, length) = entry.split_at(8);
        let number = |bytes: &[u8]| {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let run = Run {
            first: number(first),
            count: number(length),
        };
        let end = run.first.checked_add(run.count);
        if run.first < next || run.count == 0 || end.is_none_or(|end| end > memory / PAGE) {
            return Err(bad("pages out of order or outside of memory"));
        }
        next = run.first + run.count;
        pages += run.count;
        runs.push(run);
    }
    if file.metadata()?.len() != pages_begin(count) + pages * PAGE {
        return Err(bad("not as many pages as listed"));
    }
    Ok(runs)
}

/// The pages a memory file has, by its holes.
fn data_runs(source: &File, memory: u64) -> io::Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut position = 0;
    while position < memory {
        let start = match seek(source, SeekFrom::Data(position)) {
            Ok(start) => start,
            // No data up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(source, SeekFrom::Hole(start))?.min(memory);
        if start >= end {
            break;
        }
        runs.push(Run {
            first: start / PAGE,
            count: end.div_ceil(PAGE) - start / PAGE,
        });
        position = end;
    }
    Ok(runs)
}

/// The runs, cut and gathered into batches of at most [`BATCH_PAGES`].
fn batches(runs: &[Run]) -> impl Iterator<Item = Vec<Run>> {
    let mut runs = runs.iter().copied();
    let mut rest: Option<Run> = None;
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut room = BATCH_PAGES;
        while room > 0 {
            let Some(run) = rest.take().or_else(|| runs.next()) else {
                break;
            };
            let taken = run.count.min(room);
            batch.push(Run {
                first: run.first,
                count: taken,
            });
            room -= taken;
            rest = (taken < run.count).then_some(Run {
                first: run.first + taken,
                count: run.count - taken,
            });
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// Where the pages of a file with so many runs begin.
fn pages_begin(runs: u64) -> u64 {
    (HEADER + runs * RUN).next_multiple_of(PAGE)
}

fn pages_of(batch: &[Run]) -> u64 {
    batch.iter().map(|run| run.count).sum()
}

fn bytes(pages: u64) -> usize {
    usize::try_from(pages * PAGE).expect("a batch fits the address space")
}

fn bytes_of_runs(count: u64) -> usize {
    usize::try_from(count * RUN).expect("a list was checked against the guest's memory")
}

fn whole(moved: usize, wanted: usize) -> io::Result<()> {
    if moved == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "only {moved} of {wanted} bytes of guest memory could be moved"
        )))
    }
}

impl Mapping {
    /// Where the pages of a batch are in the VMM.
    fn remote(&self, batch: &[Run]) -> Vec<RemoteIoVec> {
        let ranges = batch.iter().map(|run| RemoteIoVec {
            base: self.address_of(run.first),
            len: bytes(run.count),
        });
        ranges.collect()
    }
}

#[cfg(test)]
mod tests;
