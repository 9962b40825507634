//! Writes a [`Tree`] as an erofs image.
//!
//! The format is that of `fs/erofs/erofs_fs.h` in Linux, without compression:
//!
//! ```text
//! block 0            super block at byte 1024
//! block 1 …          whole blocks of files, in the order they came
//! metadata_block …   for each node: inode, attributes, the rest of its content
//! ```
//!
//! An inode with what follows it never crosses a block, so attributes and rest
//! always fit in the one that the kernel has read already.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::tree::{Body, Content, NodeId, ROOT, Tree, kind};

/// The block size every kernel takes.
pub(crate) const BLOCK: u64 = 4096;

const MAGIC: u32 = 0xe0f5_e1e2;
const SUPER_BLOCK_AT: u64 = 1024;
/// `EROFS_FEATURE_COMPAT_MTIME`: times are those of modification.
const WITH_MTIME: u32 = 2;

/// The same for every image: nothing finds a layer by it.
const UUID: [u8; 16] = *b"emberbox-layer-0";

/// Size of an inode of the long form: the short one has no time.
const INODE: u64 = 64;

/// What a node number counts.
const SLOT: u64 = 32;

/// A number no directory entry may have is 0: `readdir` skips it.
const FIRST_NODE: u64 = 1;

const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;
/// The bit that says the inode is of the long form.
const LONG_FORM: u16 = 1;

/// Most bytes of a node's attributes, as they are stored: what is left of a
/// block must hold an inode as well.
pub(crate) const MAX_XATTR_BYTES: u64 = 3072;

const XATTR_HEADER: u64 = 12;
const XATTR_ENTRY: u64 = 4;

const DIRENT: u64 = 12;

/// Prefixes the format has numbers for.
const XATTR_PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// An image under way.
pub(crate) struct Writer {
    image: BufWriter<File>,
    next_block: u32,
    /// What does not fill a block, until its inode is written.
    tails: BufWriter<File>,
    tails_end: u64,
}

impl Writer {
    /// `image` and `spool` are empty and this writer's alone; `spool` is of no
    /// use afterwards.
    pub(crate) fn new(image: File, spool: File) -> io::Result<Self> {
        let mut image = BufWriter::with_capacity(1 << 20, image);
        image.write_all(&[0; BLOCK as usize])?;
        Ok(Self {
            image,
            next_block: 1,
            tails: BufWriter::new(spool),
            tails_end: 0,
        })
    }

    /// Takes the content of a file of `size` bytes that will have attributes
    /// of `xattr_bytes`.
    pub(crate) fn content(
        &mut self,
        reader: &mut impl Read,
        size: u64,
        xattr_bytes: u64,
    ) -> io::Result<Content> {
        let rest = size % BLOCK;
        let inline = rest > 0 && INODE + xattr_bytes + rest <= BLOCK;
        let block = self.next_block;
        let in_blocks = if inline { size - rest } else { size };
        copy(reader, &mut self.image, in_blocks)?;
        let blocks = in_blocks.div_ceil(BLOCK);
        let padding = blocks * BLOCK - in_blocks;
        io::copy(&mut io::repeat(0).take(padding), &mut self.image)?;
        let blocks = u32::try_from(blocks).map_err(io::Error::other)?;
        self.next_block = block
            .checked_add(blocks)
            .ok_or_else(|| io::Error::other("more blocks than the format has"))?;
        let tail = if inline {
            let at = self.tails_end;
            copy(reader, &mut self.tails, rest)?;
            self.tails_end += rest;
            Some(at)
        } else {
            None
        };
        Ok(Content { size, block, tail })
    }

    /// Gives the blocks of a content that nobody reads back to the disk.
    pub(crate) fn discard(&mut self, content: Content) -> io::Result<()> {
        let length = match content.tail {
            Some(_) => content.size - content.size % BLOCK,
            None => content.size.next_multiple_of(BLOCK),
        };
        if length == 0 {
            return Ok(());
        }
        self.image.flush()?;
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let at = u64::from(content.block) * BLOCK;
        // Where the file system cannot, they stay.
        let _ = rustix::fs::fallocate(self.image.get_ref(), flags, at, length);
        Ok(())
    }

    /// Writes everything else; the image is complete then.
    pub(crate) fn finish(mut self, tree: &Tree) -> io::Result<File> {
        let layout = Layout::of(tree)?;
        let tails = self
            .tails
            .into_inner()
            .map_err(|error| error.into_error())?;
        let metadata_block = self.next_block;
        let nodes = Nodes {
            tree,
            layout: &layout,
            metadata_block,
            tails: &tails,
        };
        let mut out = Output {
            image: &mut self.image,
            at: 0,
        };
        for (id, at) in &layout.order {
            out.pad_to(*at)?;
            nodes.write(&mut out, *id)?;
        }
        // fsck.erofs reads the attributes' header also of a node without any.
        let end = (out.at + XATTR_HEADER).next_multiple_of(BLOCK);
        out.pad_to(end)?;
        let blocks = u64::from(metadata_block) + end / BLOCK;
        let mut image = self
            .image
            .into_inner()
            .map_err(|error| error.into_error())?;
        image.seek(SeekFrom::Start(SUPER_BLOCK_AT))?;
        let blocks = u32::try_from(blocks).map_err(io::Error::other)?;
        image.write_all(&super_block(&layout, metadata_block, blocks))?;
        Ok(image)
    }
}

/// The size of attributes as they are stored, if they can be.
pub(crate) fn xattr_bytes(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Option<u64> {
    if xattrs.is_empty() {
        return Some(0);
    }
    let mut bytes = XATTR_HEADER;
    for (name, value) in xattrs {
        let (_, suffix) = xattr_name(name)?;
        u8::try_from(suffix.len()).ok()?;
        bytes += (XATTR_ENTRY + suffix.len() as u64 + value.len() as u64).next_multiple_of(4);
    }
    (bytes <= MAX_XATTR_BYTES).then_some(bytes)
}

/// Whether the target of a symbolic link has room behind its inode.
pub(crate) fn link_fits(xattr_bytes: u64, target: &[u8]) -> bool {
    INODE + xattr_bytes + target.len() as u64 <= BLOCK
}

fn xattr_name(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES
        .iter()
        .find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)))
}

/// Where each node goes, in bytes from the start of the metadata.
struct Layout {
    /// Every node once, with the place of its inode.
    order: Vec<(NodeId, u64)>,
    /// The same by node.
    inodes: Vec<Option<u64>>,
    /// The blocks of directories that are too large for their inode's.
    blocks: BTreeMap<NodeId, u64>,
    /// The directory each directory is in.
    parents: Vec<NodeId>,
}

impl Layout {
    fn of(tree: &Tree) -> io::Result<Self> {
        let mut layout = Self {
            order: Vec::new(),
            inodes: vec![None; tree.len()],
            blocks: BTreeMap::new(),
            parents: vec![ROOT; tree.len()],
        };
        let mut at = FIRST_NODE * SLOT;
        // The root comes first: the super block has 16 bits for its number.
        let mut waiting = vec![ROOT];
        while let Some(id) = waiting.pop() {
            if layout.inodes[id].is_some() {
                continue;
            }
            let (inode, rest) = (inode_bytes(tree, id)?, rest_bytes(tree, id)?);
            let inline = inode + rest <= BLOCK;
            let together = if inline { inode + rest } else { inode };
            at = at.next_multiple_of(SLOT);
            if at % BLOCK + together > BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            layout.inodes[id] = Some(at);
            layout.order.push((id, at));
            at += together;
            if !inline {
                at = at.next_multiple_of(BLOCK);
                layout.blocks.insert(id, at);
                at += rest.next_multiple_of(BLOCK);
            }
            if let Body::Directory(children) = &tree.node(id).body {
                // The first child is popped first.
                for child in children.values().rev() {
                    layout.parents[child.node] = id;
                    waiting.push(child.node);
                }
            }
        }
        Ok(layout)
    }

    fn number(&self, id: NodeId) -> u64 {
        self.inodes[id].expect("every node that is reached has a place") / SLOT
    }
}

fn inode_bytes(tree: &Tree, id: NodeId) -> io::Result<u64> {
    let xattrs = &tree.node(id).attributes.xattrs;
    let bytes = xattr_bytes(xattrs).ok_or_else(|| io::Error::other("attributes do not fit"))?;
    Ok(INODE + bytes)
}

/// What belongs behind the inode.
fn rest_bytes(tree: &Tree, id: NodeId) -> io::Result<u64> {
    Ok(match &tree.node(id).body {
        Body::Directory(_) => directory_size(&names(tree, id)),
        Body::File(content) => content.tail.map_or(0, |_| content.size % BLOCK),
        Body::Link(target) if link_fits(inode_bytes(tree, id)? - INODE, target) => {
            target.len() as u64
        }
        Body::Link(_) => return Err(io::Error::other("a link's target does not fit")),
        Body::Device { .. } | Body::Fifo => 0,
    })
}

/// Names in the order of their bytes, and whose they are.
type Names<'a> = Vec<(&'a [u8], Name)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Itself,
    Parent,
    Child(NodeId),
}

fn names(tree: &Tree, id: NodeId) -> Names<'_> {
    let children = tree.children(id).iter();
    let children = children.map(|(name, child)| (name.as_slice(), Name::Child(child.node)));
    let mut names: Names<'_> = vec![(b".", Name::Itself), (b"..", Name::Parent)];
    names.extend(children);
    names.sort_unstable();
    names
}

/// How many of `names` fit into one block of a directory, and their bytes.
fn fill(names: &[(&[u8], Name)]) -> (usize, u64) {
    let mut bytes = 0;
    for (index, (name, _)) in names.iter().enumerate() {
        let more = DIRENT + name.len() as u64;
        if bytes + more > BLOCK {
            return (index, bytes);
        }
        bytes += more;
    }
    (names.len(), bytes)
}

fn directory_size(names: &[(&[u8], Name)]) -> u64 {
    let (mut left, mut size) = (names, 0);
    while !left.is_empty() {
        let (fit, bytes) = fill(left);
        left = &left[fit..];
        size += if left.is_empty() { bytes } else { BLOCK };
    }
    size
}

/// The metadata, written in order.
struct Output<'a> {
    image: &'a mut BufWriter<File>,
    at: u64,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.image.write_all(bytes)
    }

    fn pad_to(&mut self, at: u64) -> io::Result<()> {
        let padding = at - self.at;
        self.at = at;
        io::copy(&mut io::repeat(0).take(padding), self.image).map(drop)
    }
}

/// What the nodes of one image are written with.
struct Nodes<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
    metadata_block: u32,
    tails: &'a File,
}

impl Nodes<'_> {
    fn write(&self, out: &mut Output<'_>, id: NodeId) -> io::Result<()> {
        let node = self.tree.node(id);
        let rest = rest_bytes(self.tree, id)?;
        let blocks = self.layout.blocks.get(&id);
        let (size, union) = match (&node.body, blocks) {
            (Body::Directory(_), Some(at)) => (rest, self.metadata_block + (at / BLOCK) as u32),
            (Body::Directory(_) | Body::Link(_), _) => (rest, 0),
            (Body::File(content), _) => (content.size, content.block),
            (Body::Device { major, minor, .. }, _) => (0, device_number(*major, *minor)),
            (Body::Fifo, _) => (0, 0),
        };
        let inline = rest > 0 && blocks.is_none();
        let layout = if inline { FLAT_INLINE } else { FLAT_PLAIN };
        let attributes = &node.attributes;
        let xattrs = inode_bytes(self.tree, id)? - INODE;
        let icount = match xattrs {
            0 => 0,
            bytes => (bytes - XATTR_HEADER) / 4 + 1,
        };
        let mut inode = Vec::with_capacity(INODE as usize);
        inode.extend((layout << 1 | LONG_FORM).to_le_bytes());
        inode.extend((icount as u16).to_le_bytes());
        inode.extend(((node.body.kind() | attributes.mode & 0o7777) as u16).to_le_bytes());
        inode.extend([0; 2]);
        inode.extend(size.to_le_bytes());
        inode.extend(union.to_le_bytes());
        inode.extend((self.layout.number(id) as u32).to_le_bytes());
        inode.extend(attributes.uid.to_le_bytes());
        inode.extend(attributes.gid.to_le_bytes());
        inode.extend(attributes.mtime.to_le_bytes());
        inode.extend(attributes.mtime_ns.to_le_bytes());
        inode.extend(self.links(id).to_le_bytes());
        inode.resize(INODE as usize, 0);
        out.put(&inode)?;
        write_xattrs(out, &attributes.xattrs)?;
        match &node.body {
            Body::Directory(_) => {
                if let Some(at) = blocks {
                    out.pad_to(*at)?;
                }
                self.write_directory(out, id)
            }
            Body::File(Content { tail: Some(at), .. }) => {
                let mut bytes = vec![0; rest as usize];
                self.tails.read_exact_at(&mut bytes, *at)?;
                out.put(&bytes)
            }
            Body::Link(target) => out.put(target),
            Body::File(_) | Body::Device { .. } | Body::Fifo => Ok(()),
        }
    }

    fn links(&self, id: NodeId) -> u32 {
        let node = self.tree.node(id);
        let Body::Directory(children) = &node.body else {
            return node.links;
        };
        let nodes = children
            .values()
            .map(|child| &self.tree.node(child.node).body);
        let directories = nodes.filter(|body| matches!(body, Body::Directory(_)));
        2 + directories.count() as u32
    }

    fn write_directory(&self, out: &mut Output<'_>, id: NodeId) -> io::Result<()> {
        let names = names(self.tree, id);
        let mut left = names.as_slice();
        while !left.is_empty() {
            let (fit, _) = fill(left);
            let (block, rest) = left.split_at(fit);
            let end = out.at + BLOCK;
            let mut name_at = DIRENT * fit as u64;
            for (name, whose) in block {
                let child = match whose {
                    Name::Itself => id,
                    Name::Parent => self.layout.parents[id],
                    Name::Child(child) => *child,
                };
                let mut entry = [0; DIRENT as usize];
                entry[..8].copy_from_slice(&self.layout.number(child).to_le_bytes());
                entry[8..10].copy_from_slice(&(name_at as u16).to_le_bytes());
                entry[10] = file_type(&self.tree.node(child).body);
                out.put(&entry)?;
                name_at += name.len() as u64;
            }
            for (name, _) in block {
                out.put(name)?;
            }
            if !rest.is_empty() {
                out.pad_to(end)?;
            }
            left = rest;
        }
        Ok(())
    }
}

fn write_xattrs(out: &mut Output<'_>, xattrs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    if xattrs.is_empty() {
        return Ok(());
    }
    out.put(&[0; XATTR_HEADER as usize])?;
    for (name, value) in xattrs {
        let (index, suffix) =
            xattr_name(name).ok_or_else(|| io::Error::other("an attribute has no number"))?;
        out.put(&[suffix.len() as u8, index])?;
        out.put(&(value.len() as u16).to_le_bytes())?;
        out.put(suffix)?;
        out.put(value)?;
        let end = out.at.next_multiple_of(4);
        out.pad_to(end)?;
    }
    Ok(())
}

/// `FT_REG_FILE` and its like.
fn file_type(body: &Body) -> u8 {
    match body {
        Body::File(_) => 1,
        Body::Directory(_) => 2,
        Body::Device { kind, .. } if *kind == kind::CHARACTER => 3,
        Body::Device { .. } => 4,
        Body::Fifo => 5,
        Body::Link(_) => 7,
    }
}

/// As the kernel's `new_encode_dev` does.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn super_block(layout: &Layout, metadata_block: u32, blocks: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(MAGIC.to_le_bytes());
    // No checksum: a layer is verified as a whole.
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(WITH_MTIME.to_le_bytes());
    bytes.push(BLOCK.trailing_zeros() as u8);
    bytes.push(0);
    bytes.extend((layout.number(ROOT) as u16).to_le_bytes());
    bytes.extend((layout.order.len() as u64).to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(blocks.to_le_bytes());
    bytes.extend(metadata_block.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(UUID);
    bytes.resize(128, 0);
    bytes
}

/// Copies exactly `bytes`.
fn copy(reader: &mut impl Read, writer: &mut impl Write, bytes: u64) -> io::Result<()> {
    let copied = io::copy(&mut reader.by_ref().take(bytes), writer)?;
    if copied == bytes {
        return Ok(());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
