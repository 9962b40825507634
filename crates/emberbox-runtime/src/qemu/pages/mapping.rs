//! Where a guest's memory is in its VMM's process, and which pages of it are
//! the guest's own.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::{PAGE, Run, scan};
use crate::qemu::memory::{OWN_MEMORY, SEED_MEMORY};

/// Bytes of one entry of `/proc/PID/pagemap` (proc(5)).
const ENTRY: u64 = 8;

/// Entries read at once.
const ENTRIES: u64 = 32 * 1024;

/// Bits of an entry: the page is in memory; it is in swap; it is the file's
/// own (or shared), not a copy.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// Whose writes a mapping's pages hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::qemu) enum Sharing {
    /// A copy-on-write view of a seed: pages the guest wrote are its own.
    Private,
    /// A memory file of this guest alone.
    Shared,
}

/// Guest memory as a VMM maps it, from its first byte to its last. It stays
/// there for as long as the VMM lives.
#[derive(Debug)]
pub(in crate::qemu) struct Mapping {
    pub(super) pid: i32,
    start: u64,
    pub(super) memory: u64,
    sharing: Sharing,
    /// The name of its first part under `/proc/PID/map_files`.
    first: String,
}

impl Mapping {
    /// Finds `memory` bytes of guest memory in a process.
    pub(in crate::qemu) fn find(pid: i32, memory: u64) -> io::Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        Self::parse(pid, memory, &maps)
            .ok_or_else(|| io::Error::other("the VMM's process has no guest memory to save"))
    }

    pub(super) fn parse(pid: i32, memory: u64, maps: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut length = 0;
        for line in maps.lines() {
            let Some(part) = Part::parse(line) else {
                continue;
            };
            // The kernel cuts a mapping where its flags change; the parts
            // still lie beside each other, in memory and in the file.
            let follows = match &found {
                None => part.offset == 0,
                Some(whole) => {
                    part.sharing == whole.sharing
                        && part.offset == length
                        && part.start == whole.start + length
                }
            };
            if !follows {
                return None;
            }
            length += part.end - part.start;
            found.get_or_insert_with(|| Self {
                pid,
                start: part.start,
                memory,
                sharing: part.sharing,
                first: part.range.to_owned(),
            });
        }
        found.filter(|_| length == memory)
    }

    /// Whose writes its pages hold.
    pub(in crate::qemu) fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The file behind it.
    pub(in crate::qemu) fn open(&self) -> io::Result<File> {
        // The kernel may have cut it since.
        let Self { pid, first, .. } = Self::find(self.pid, self.memory)?;
        File::open(format!("/proc/{pid}/map_files/{first}"))
    }

    /// Where a page is in the process.
    pub(super) fn address_of(&self, page: u64) -> usize {
        usize::try_from(self.start + page * PAGE).expect("an address of a 64-bit process")
    }

    /// The pages that are not the file's any more.
    pub(super) fn private_runs(&self) -> io::Result<Vec<Run>> {
        let pagemap = File::open(format!("/proc/{}/pagemap", self.pid))?;
        let range = self.start..self.start + self.memory;
        let own = match scan::own(&pagemap, range.clone()) {
            // This kernel cannot.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTTY) => {
                entries(&pagemap, range)?
            }
            found => found?,
        };
        let runs = own.into_iter().map(|own| Run {
            first: (own.start - self.start) / PAGE,
            count: (own.end - own.start) / PAGE,
        });
        Ok(runs.collect())
    }
}

/// What [`scan::own`] finds, read off the entry of each page there could be.
pub(super) fn entries(pagemap: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut own: Vec<Range<u64>> = Vec::new();
    let mut buffer = vec![0; (ENTRIES * ENTRY) as usize];
    let mut address = range.start;
    while address < range.end {
        let count = ENTRIES.min((range.end - address) / PAGE);
        let read = &mut buffer[..(count * ENTRY) as usize];
        pagemap.read_exact_at(read, address / PAGE * ENTRY)?;
        for entry in read.as_chunks().0 {
            let next = address + PAGE;
            if is_own(u64::from_ne_bytes(*entry)) {
                match own.last_mut() {
                    Some(last) if last.end == address => last.end = next,
                    Some(_) | None => own.push(address..next),
                }
            }
            address = next;
        }
    }
    Ok(own)
}

fn is_own(entry: u64) -> bool {
    entry & SWAPPED != 0 || (entry & PRESENT != 0 && entry & OF_FILE == 0)
}

/// One line of `/proc/PID/maps` that is guest memory.
struct Part<'a> {
    range: &'a str,
    start: u64,
    end: u64,
    offset: u64,
    sharing: Sharing,
}

impl<'a> Part<'a> {
    /// `start-end perms offset device inode   /memfd:name (deleted)`
    fn parse(line: &'a str) -> Option<Self> {
        let (facts, name) = line.split_once("/memfd:")?;
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        let mut facts = facts.split_whitespace();
        let range = facts.next()?;
        let sharing = match (name, facts.next()?) {
            (SEED_MEMORY, "rw-p") => Sharing::Private,
            (OWN_MEMORY, "rw-s") => Sharing::Shared,
            _ => return None,
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let offset = hex(facts.next()?)?;
        let (start, end) = range.split_once('-')?;
        Some(Self {
            range,
            start: hex(start)?,
            end: hex(end)?,
            offset,
            sharing,
        })
    }
}

#[cfg(test)]
mod tests;
