//! Reads the layers of an image: tar archives nobody vouches for.
//!
//! Decides: what an entry means, and where reading stops. Long names and
//! attributes are read here and not by the tar library, which takes as much
//! memory for them as an archive says.

use std::fs::File;
use std::io::{self, Read};

use tar::{Archive, EntryType, Header};

use crate::erofs::{self, Writer};
use crate::tree::{Attributes, Body, MAX_PATH, ROOT, Tree, Whiteouts, kind};

/// Most bytes of files in one image, all layers and replaced files included:
/// the largest disk a sandbox may have, and half as much again.
pub(crate) const MAX_BYTES: u64 = 16 << 30;

/// Most bytes of one entry's long names and attributes.
const MAX_HEADER: u64 = 1 << 20;

/// What an archive may have besides content: a header and its padding for
/// each entry there can be.
const MAX_OVERHEAD: u64 = 4 << 30;

/// Attributes of these are kept; others are of file systems a guest does not
/// have.
const KEPT_XATTRS: [&[u8]; 3] = [b"user.", b"security.capability", b"system.posix_acl_"];

/// What overlayfs must know of a directory in a layer below; the rest of its
/// notes are about the disk it was made on.
const OVERLAY_XATTRS: [&[u8]; 2] = [b"trusted.overlay.opaque", b"trusted.overlay.redirect"];

const XATTR_KEY: &str = "SCHILY.xattr.";

/// Why an archive is no part of an image.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An entry that no image has.
    #[error("the entry {path:?} {why}")]
    Refused {
        /// Its path, shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than there may be.
    #[error("the image has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
    /// The bytes are no archive, or end in the middle of one.
    #[error("the archive is damaged")]
    Damaged(#[source] io::Error),
    /// The image cannot be written.
    #[error("the image cannot be written")]
    Write(#[source] io::Error),
}

/// An image under way: what it will hold, and the file that holds it.
pub(crate) struct Packer {
    tree: Tree,
    writer: Writer,
    bytes: u64,
}

impl Packer {
    /// Both files are empty and this packer's alone.
    pub(crate) fn new(whiteouts: Whiteouts, image: File, spool: File) -> io::Result<Self> {
        Ok(Self {
            tree: Tree::new(whiteouts),
            writer: Writer::new(image, spool)?,
            bytes: 0,
        })
    }

    /// What it will hold.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Puts a file of our own into it.
    pub(crate) fn add_file(&mut self, path: &str, content: &[u8]) -> Result<(), ArchiveError> {
        let attributes = Attributes {
            mode: 0o644,
            ..Attributes::default()
        };
        let mut reader = content;
        let stored = self.writer.content(&mut reader, content.len() as u64, 0);
        let body = Body::File(stored.map_err(ArchiveError::Write)?);
        self.tree.insert(path.as_bytes(), attributes, body)
    }

    /// Applies the next layer up: a tar archive, unpacked.
    pub(crate) fn add_layer(&mut self, reader: impl Read) -> Result<(), ArchiveError> {
        self.tree.begin_layer();
        let mut archive = Archive::new(reader.take(MAX_BYTES + MAX_OVERHEAD));
        let entries = archive.entries().map_err(ArchiveError::Damaged)?.raw(true);
        let mut extra = Extra::default();
        for entry in entries {
            let mut entry = entry.map_err(ArchiveError::Damaged)?;
            self.tree.count()?;
            let header = entry.header().clone();
            let size = header.entry_size().map_err(ArchiveError::Damaged)?;
            match header.entry_type() {
                EntryType::GNULongName => extra.path = Some(text(&mut entry, size)?),
                EntryType::GNULongLink => extra.target = Some(text(&mut entry, size)?),
                EntryType::XHeader => extra.read_pax(&bytes(&mut entry, size)?)?,
                // Says nothing about any file that an image could need.
                EntryType::XGlobalHeader => {}
                _ => {
                    let extra = std::mem::take(&mut extra);
                    self.add(&header, extra, &mut entry, size)?;
                    for content in self.tree.take_dropped() {
                        self.writer.discard(content).map_err(ArchiveError::Write)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes what is left to write. The image is complete, not yet synced.
    pub(crate) fn finish(self) -> Result<File, ArchiveError> {
        self.writer.finish(&self.tree).map_err(ArchiveError::Write)
    }

    fn add(
        &mut self,
        header: &Header,
        extra: Extra,
        content: &mut impl Read,
        size: u64,
    ) -> Result<(), ArchiveError> {
        let path = extra
            .path
            .unwrap_or_else(|| header.path_bytes().into_owned());
        if extra.resized.is_some_and(|resized| resized != size) {
            return Err(refused(&path, "is larger than a plain header can say"));
        }
        if self.tree.white_out(&path)? {
            return Ok(());
        }
        let target = || {
            let in_header = || header.link_name_bytes().map(|name| name.into_owned());
            extra.target.clone().or_else(in_header).unwrap_or_default()
        };
        let kind = header.entry_type();
        if let EntryType::Link = kind {
            return self.tree.link(&path, &target());
        }
        let attributes = attributes(header, &path, extra.xattrs, extra.mtime)?;
        let xattr_bytes = erofs::xattr_bytes(&attributes.xattrs).ok_or(ArchiveError::Limit {
            what: "bytes in the extended attributes of one file",
            limit: erofs::MAX_XATTR_BYTES,
        })?;
        let body = match kind {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => {
                // How tar said it before it had a type for directories.
                directory()
            }
            EntryType::Regular | EntryType::Continuous => {
                self.bytes = self.bytes.saturating_add(size);
                if self.bytes > MAX_BYTES {
                    return Err(ArchiveError::Limit {
                        what: "bytes in files",
                        limit: MAX_BYTES,
                    });
                }
                let stored = self.writer.content(content, size, xattr_bytes);
                Body::File(stored.map_err(|error| match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        ArchiveError::Write(error)
                    }
                    _ => ArchiveError::Damaged(error),
                })?)
            }
            EntryType::Directory => directory(),
            EntryType::Symlink => {
                let target = target();
                if target.is_empty() || target.contains(&0) {
                    return Err(refused(&path, "is a symbolic link to nothing"));
                }
                if !erofs::link_fits(xattr_bytes, &target) {
                    return Err(refused(&path, "is a symbolic link with too long a target"));
                }
                Body::Link(target)
            }
            EntryType::Char => device(header, kind::CHARACTER)?,
            EntryType::Block => device(header, kind::BLOCK)?,
            EntryType::Fifo => Body::Fifo,
            _ => return Err(refused(&path, "is of a kind that images do not have")),
        };
        self.tree.insert(&path, attributes, body)
    }
}

/// What comes before an entry and is about it.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    resized: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extra {
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), ArchiveError> {
        while !records.is_empty() {
            let (key, value, rest) = pax_record(records).ok_or_else(|| {
                ArchiveError::Damaged(io::Error::other("a record is not as long as it says"))
            })?;
            records = rest;
            let Ok(key) = std::str::from_utf8(key) else {
                continue;
            };
            match key {
                "path" => self.path = Some(value.to_vec()),
                "linkpath" => self.target = Some(value.to_vec()),
                "size" => self.resized = Some(number(value)?),
                "mtime" => self.mtime = time(value),
                _ if key.starts_with("GNU.sparse.") => {
                    let path = self.path.as_deref().unwrap_or_default();
                    return Err(refused(path, "is sparse, which images do not have"));
                }
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR_KEY) {
                        self.xattrs.push((name.into(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

fn attributes(
    header: &Header,
    path: &[u8],
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    mtime: Option<(i64, u32)>,
) -> Result<Attributes, ArchiveError> {
    let id = |id: io::Result<u64>| {
        let id = id.map_err(ArchiveError::Damaged)?;
        u32::try_from(id).map_err(|_| refused(path, "has an owner no file can have"))
    };
    let seconds = header.mtime().map_err(ArchiveError::Damaged)?;
    let (mtime, mtime_ns) = mtime.unwrap_or((i64::try_from(seconds).unwrap_or(0), 0));
    let kept = |name: &[u8]| {
        KEPT_XATTRS.iter().any(|kept| name.starts_with(kept)) || OVERLAY_XATTRS.contains(&name)
    };
    let mut xattrs: Vec<_> = xattrs.into_iter().filter(|(name, _)| kept(name)).collect();
    // The last of one name counts.
    xattrs.reverse();
    xattrs.sort_by(|left, right| left.0.cmp(&right.0));
    xattrs.dedup_by(|later, first| later.0 == first.0);
    Ok(Attributes {
        mode: header.mode().map_err(ArchiveError::Damaged)? & 0o7777,
        uid: id(header.uid())?,
        gid: id(header.gid())?,
        mtime,
        mtime_ns,
        xattrs,
    })
}

fn directory() -> Body {
    Body::Directory(std::collections::BTreeMap::new())
}

fn device(header: &Header, kind: u32) -> Result<Body, ArchiveError> {
    let number = |number: io::Result<Option<u32>>| {
        number
            .map(Option::unwrap_or_default)
            .map_err(ArchiveError::Damaged)
    };
    Ok(Body::Device {
        kind,
        major: number(header.device_major())?,
        minor: number(header.device_minor())?,
    })
}

fn bytes(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, ArchiveError> {
    if size > MAX_HEADER {
        return Err(ArchiveError::Limit {
            what: "bytes in an entry's header",
            limit: MAX_HEADER,
        });
    }
    let mut bytes = Vec::new();
    entry
        .take(size)
        .read_to_end(&mut bytes)
        .map_err(ArchiveError::Damaged)?;
    if bytes.len() as u64 != size {
        return Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

/// The key and value of the first record, and what follows it: `LENGTH
/// KEY=VALUE` and a newline, where the length is that of all of it. A value may
/// be any bytes, newlines too; the tar library would end it there.
fn pax_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// A long name, which ends with a NUL byte.
fn text(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = bytes(entry, size)?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn number(value: &[u8]) -> Result<u64, ArchiveError> {
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| ArchiveError::Damaged(io::Error::other("a size is no number")))
}

/// `SECONDS.FRACTION`; nothing if it is something else.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: u32 = digits.parse().ok()?;
    // Before the epoch the fraction counts the other way, and nobody cares.
    Some((seconds, if seconds < 0 { 0 } else { nanoseconds }))
}

fn refused(path: &[u8], why: &'static str) -> ArchiveError {
    ArchiveError::Refused {
        path: String::from_utf8_lossy(&path[..path.len().min(MAX_PATH)]).into_owned(),
        why,
    }
}

/// What an image has to be so that sandboxes can be made of it: a shell, and
/// the C library that Debian's and Ubuntu's programs are linked with.
pub(crate) fn unsupported(tree: &Tree) -> Option<&'static str> {
    let is_file = |path: &str| {
        let node = tree.resolve(path).map(|id| &tree.node(id).body);
        matches!(node, Some(Body::File(_)))
    };
    if tree.children(ROOT).is_empty() {
        return Some("the image is empty");
    }
    if !is_file("/bin/sh") && !is_file("/bin/bash") {
        return Some("the image has no shell (neither /bin/bash nor /bin/sh)");
    }
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    if !loaders.into_iter().any(is_file) {
        return Some("the image has no glibc (it is not of the Debian or Ubuntu family)");
    }
    None
}

#[cfg(test)]
mod tests;
