//! Listing a directory.

use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use emberbox_guest::{Entry, GuestError, ListSpec};

use super::describe;
use super::error::{check_path, failed};

/// Most entries of one listing, whatever was asked for: a few megabytes.
const ENTRIES: usize = 16 * 1024;

/// Deepest level, whatever was asked for: paths end at 4096 bytes anyway, and
/// the walk uses the stack.
const DEPTH: u32 = 64;

/// What was found.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    pub(super) truncated: bool,
}

/// The entries of a directory by name, each directory followed by its own.
pub(super) fn collect(spec: &ListSpec) -> Result<Listing, GuestError> {
    check_path(&spec.path)?;
    let limit = usize::try_from(spec.limit).map_or(ENTRIES, |limit| limit.min(ENTRIES));
    let mut listing = Listing {
        entries: Vec::new(),
        truncated: false,
    };
    listing
        .add(Path::new(&spec.path), spec.depth.min(DEPTH), limit)
        .map_err(|error| failed("list", &spec.path, &error))?;
    Ok(listing)
}

impl Listing {
    fn add(&mut self, directory: &Path, depth: u32, limit: usize) -> io::Result<()> {
        let room = limit - self.entries.len();
        let (names, cut) = first_names(directory, if depth == 0 { 0 } else { room })?;
        if depth == 0 {
            return Ok(());
        }
        self.truncated |= cut;
        for name in names {
            if self.entries.len() == limit {
                self.truncated = true;
                return Ok(());
            }
            let path = directory.join(&name);
            // Gone since the directory was read.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            self.entries.push(Entry {
                name: name.to_string_lossy().into_owned(),
                stat: describe(path.to_string_lossy().into_owned(), &metadata),
            });
            if metadata.is_dir() && depth > 1 {
                // A directory below that cannot be read is listed as empty.
                let _ = self.add(&path, depth - 1, limit);
            }
        }
        Ok(())
    }
}

/// The first `room` names in order, and whether there are more. Memory is
/// bounded by `room`, not by the directory.
fn first_names(directory: &Path, room: usize) -> io::Result<(Vec<OsString>, bool)> {
    let mut names = BinaryHeap::new();
    let mut cut = false;
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
        if names.len() > room {
            names.pop();
            cut = true;
        }
    }
    Ok((names.into_sorted_vec(), cut))
}
