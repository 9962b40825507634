//! A file tree in memory: what an image will hold, before it is written.
//!
//! Decides: where an entry of an archive ends up, what a later layer does to an
//! earlier one, and what is refused. No entry is ever a file of this host, so
//! no name and no link of an archive can lead out of the image.
//!
//! Invariants: every name in a directory is a plain one; a node is in the tree
//! as often as its link count says; a directory is in it once.

use std::collections::BTreeMap;

use crate::archive::ArchiveError;

/// Most entries of one image, in all its layers: a large one has a tenth, and
/// each takes some hundred bytes of memory while it is packed.
pub(crate) const MAX_ENTRIES: u64 = 1_000_000;

/// Longest path, what Linux takes less the root's slash and the NUL byte.
pub(crate) const MAX_PATH: usize = 4094;

/// Longest name in a directory (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// Most symbolic links on the way to one file, as in Linux.
const MAX_LINKS: usize = 40;

/// Begins the name of an entry that removes another.
const WHITEOUT: &[u8] = b".wh.";

/// The entry that hides everything of its directory in the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The type bits of a mode, as in `stat`.
pub(crate) mod kind {
    pub(crate) const FIFO: u32 = 0o010_000;
    pub(crate) const CHARACTER: u32 = 0o020_000;
    pub(crate) const DIRECTORY: u32 = 0o040_000;
    pub(crate) const BLOCK: u32 = 0o060_000;
    pub(crate) const FILE: u32 = 0o100_000;
    pub(crate) const LINK: u32 = 0o120_000;
}

/// Which node.
pub(crate) type NodeId = usize;

/// The root directory.
pub(crate) const ROOT: NodeId = 0;

/// What is known of a file besides what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits, set-id and sticky ones included.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the Unix epoch.
    pub(crate) mtime: i64,
    pub(crate) mtime_ns: u32,
    /// Full names and values, sorted.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// A directory nobody described.
    fn implied() -> Self {
        Self {
            mode: 0o755,
            ..Self::default()
        }
    }
}

/// What a node is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Directory(BTreeMap<Vec<u8>, Child>),
    File(Content),
    Link(Vec<u8>),
    /// `kind::CHARACTER` or `kind::BLOCK`.
    Device {
        kind: u32,
        major: u32,
        minor: u32,
    },
    Fifo,
}

impl Body {
    /// The type bits.
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::Directory(_) => kind::DIRECTORY,
            Self::File(_) => kind::FILE,
            Self::Link(_) => kind::LINK,
            Self::Device { kind, .. } => *kind,
            Self::Fifo => kind::FIFO,
        }
    }
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    /// The first of its whole blocks.
    pub(crate) block: u32,
    /// Where the rest of it waits for its inode; none if it is in a block.
    pub(crate) tail: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) node: NodeId,
    /// The last layer that has an entry here or below.
    layer: u32,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) links: u32,
    pub(crate) body: Body,
}

/// How an archive says that something is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whiteouts {
    /// By names that begin with `.wh.`; applied to the layers below.
    Applied,
    /// Like overlayfs itself: a character device 0:0. It stays in the tree.
    Kept,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    whiteouts: Whiteouts,
    layer: u32,
    entries: u64,
    /// Contents that no file has any more.
    dropped: Vec<Content>,
}

impl Tree {
    pub(crate) fn new(whiteouts: Whiteouts) -> Self {
        let root = Node {
            attributes: Attributes::implied(),
            links: 1,
            body: Body::Directory(BTreeMap::new()),
        };
        Self {
            nodes: vec![root],
            whiteouts,
            layer: 0,
            entries: 0,
            dropped: Vec::new(),
        }
    }

    /// What follows is of the next layer up.
    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// How many nodes there are, those nobody reaches included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The contents that became unreachable since the last call.
    pub(crate) fn take_dropped(&mut self) -> Vec<Content> {
        std::mem::take(&mut self.dropped)
    }

    /// Counts an entry before anything is done with it.
    pub(crate) fn count(&mut self) -> Result<(), ArchiveError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(ArchiveError::Limit {
                what: "entries",
                limit: MAX_ENTRIES,
            });
        }
        Ok(())
    }

    /// Puts something at `path`. A directory keeps what is in it; anything
    /// else replaces what was there.
    pub(crate) fn insert(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        body: Body,
    ) -> Result<(), ArchiveError> {
        let Some((parent, name)) = self.place(path)? else {
            return match body {
                Body::Directory(_) => {
                    self.nodes[ROOT].attributes = attributes;
                    Ok(())
                }
                Body::File(_) | Body::Link(_) | Body::Device { .. } | Body::Fifo => {
                    Err(refused(path, "is the root and no directory"))
                }
            };
        };
        if let (Body::Directory(_), Some(existing)) = (&body, self.child(parent, &name))
            && let Body::Directory(_) = self.nodes[existing].body
        {
            self.nodes[existing].attributes = attributes;
            self.stamp(parent, name, existing);
            return Ok(());
        }
        let node = self.nodes.len();
        self.nodes.push(Node {
            attributes,
            links: 1,
            body,
        });
        self.attach(parent, name, node);
        Ok(())
    }

    /// Gives the file at `target` another name.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError> {
        let Some((parent, name)) = self.place(path)? else {
            return Err(refused(path, "is the root and no directory"));
        };
        let found = self.find(&components(target)?);
        let node = found.ok_or_else(|| refused(path, "is a hard link to what is not there"))?;
        if let Body::Directory(_) = self.nodes[node].body {
            return Err(refused(path, "is a hard link to a directory"));
        }
        if self.child(parent, &name) == Some(node) {
            self.stamp(parent, name, node);
            return Ok(());
        }
        self.nodes[node].links += 1;
        self.attach(parent, name, node);
        Ok(())
    }

    /// Whether `path` is a whiteout, which is carried out then.
    pub(crate) fn white_out(&mut self, path: &[u8]) -> Result<bool, ArchiveError> {
        match self.whiteouts {
            Whiteouts::Applied => {}
            Whiteouts::Kept => return Ok(false),
        }
        let parts = components(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Ok(false);
        };
        let Some(hidden) = name.strip_prefix(WHITEOUT) else {
            return Ok(false);
        };
        if *name == OPAQUE {
            let parent = self.directory(parents, path)?;
            self.prune(parent);
            return Ok(true);
        }
        // Notes of aufs to itself.
        if hidden.starts_with(WHITEOUT) {
            return Ok(true);
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(path, "hides a name that cannot be"));
        }
        let parent = self.directory(parents, path)?;
        let (layer, hidden) = (self.layer, hidden.to_vec());
        match self.children(parent).get(&hidden) {
            None => {}
            // The layer's own entries stay, wherever in it they stand.
            Some(child) if child.layer == layer => {
                let node = child.node;
                self.prune(node);
            }
            Some(_) => self.detach(parent, &hidden),
        }
        Ok(true)
    }

    /// The file a path leads to inside this tree, links followed.
    pub(crate) fn resolve(&self, path: &str) -> Option<NodeId> {
        let mut left: Vec<Vec<u8>> = split(path.as_bytes()).rev().map(<[u8]>::to_vec).collect();
        let mut way = vec![ROOT];
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == b".." {
                // The root is its own parent.
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            let at = *way.last()?;
            let child = match &self.nodes[at].body {
                Body::Directory(children) => children.get(&part)?.node,
                Body::File(_) | Body::Link(_) | Body::Device { .. } | Body::Fifo => return None,
            };
            if let Body::Link(target) = &self.nodes[child].body {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                if target.starts_with(b"/") {
                    way.truncate(1);
                }
                left.extend(split(target).rev().map(<[u8]>::to_vec));
            } else {
                way.push(child);
            }
        }
        way.pop()
    }

    /// The directory a path's last name goes into, and that name; none for the
    /// root. Missing directories are made.
    fn place(&mut self, path: &[u8]) -> Result<Option<(NodeId, Vec<u8>)>, ArchiveError> {
        let parts = components(path)?;
        let Some((name, parents)) = parts.split_last() else {
            return Ok(None);
        };
        let parent = self.directory(parents, path)?;
        Ok(Some((parent, name.to_vec())))
    }

    fn directory(&mut self, parts: &[&[u8]], path: &[u8]) -> Result<NodeId, ArchiveError> {
        let mut at = ROOT;
        for part in parts {
            let child = self.children(at).get(*part);
            let child = child.map(|child| (child.node, child.layer));
            let next = match child {
                Some((node, layer)) => match &self.nodes[node].body {
                    Body::Directory(_) => Some(node),
                    // In one layer only an archive made by hand does this.
                    _ if layer == self.layer => {
                        return Err(refused(path, "leads through what is no directory"));
                    }
                    // As in an overlay: the directory hides what is below.
                    Body::File(_) | Body::Link(_) | Body::Device { .. } | Body::Fifo => None,
                },
                None => None,
            };
            at = match next {
                Some(node) => {
                    self.stamp(at, part.to_vec(), node);
                    node
                }
                None => {
                    // Implied ones take memory like any other.
                    self.count()?;
                    let node = self.nodes.len();
                    self.nodes.push(Node {
                        attributes: Attributes::implied(),
                        links: 1,
                        body: Body::Directory(BTreeMap::new()),
                    });
                    self.attach(at, part.to_vec(), node);
                    node
                }
            };
        }
        Ok(at)
    }

    /// A path without following any link.
    fn find(&self, parts: &[&[u8]]) -> Option<NodeId> {
        parts
            .iter()
            .try_fold(ROOT, |at, part| match &self.nodes[at].body {
                Body::Directory(children) => children.get(*part).map(|child| child.node),
                Body::File(_) | Body::Link(_) | Body::Device { .. } | Body::Fifo => None,
            })
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(parent).get(name).map(|child| child.node)
    }

    pub(crate) fn children(&self, directory: NodeId) -> &BTreeMap<Vec<u8>, Child> {
        match &self.nodes[directory].body {
            Body::Directory(children) => children,
            Body::File(_) | Body::Link(_) | Body::Device { .. } | Body::Fifo => {
                unreachable!("only directories are looked into")
            }
        }
    }

    fn children_mut(&mut self, directory: NodeId) -> &mut BTreeMap<Vec<u8>, Child> {
        match &mut self.nodes[directory].body {
            Body::Directory(children) => children,
            Body::File(_) | Body::Link(_) | Body::Device { .. } | Body::Fifo => {
                unreachable!("only directories are looked into")
            }
        }
    }

    fn stamp(&mut self, parent: NodeId, name: Vec<u8>, node: NodeId) {
        let layer = self.layer;
        self.children_mut(parent)
            .insert(name, Child { node, layer });
    }

    fn attach(&mut self, parent: NodeId, name: Vec<u8>, node: NodeId) {
        self.detach(parent, &name);
        self.stamp(parent, name, node);
    }

    fn detach(&mut self, parent: NodeId, name: &[u8]) {
        let Some(child) = self.children_mut(parent).remove(name) else {
            return;
        };
        let mut gone = vec![child.node];
        while let Some(id) = gone.pop() {
            let node = &mut self.nodes[id];
            node.links -= 1;
            if node.links > 0 {
                continue;
            }
            match &mut node.body {
                Body::Directory(children) => {
                    let children = std::mem::take(children);
                    gone.extend(children.into_values().map(|child| child.node));
                }
                Body::File(content) => self.dropped.push(*content),
                Body::Link(_) | Body::Device { .. } | Body::Fifo => {}
            }
        }
    }

    /// Removes what is of lower layers below `top`.
    fn prune(&mut self, top: NodeId) {
        let layer = self.layer;
        let mut directories = vec![top];
        while let Some(id) = directories.pop() {
            let Body::Directory(children) = &self.nodes[id].body else {
                continue;
            };
            let mut old = Vec::new();
            for (name, child) in children {
                if child.layer == layer {
                    directories.push(child.node);
                } else {
                    old.push(name.clone());
                }
            }
            for name in old {
                self.detach(id, &name);
            }
        }
    }
}

/// The names a path is made of. A leading slash means nothing: everything is
/// below the image's root.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, ArchiveError> {
    if path.len() > MAX_PATH {
        return Err(ArchiveError::Limit {
            what: "bytes in a path",
            limit: MAX_PATH as u64,
        });
    }
    let parts: Vec<_> = split(path).collect();
    for part in &parts {
        if *part == b".." {
            return Err(refused(path, "climbs out of its directory"));
        }
        if part.contains(&0) {
            return Err(refused(path, "has a NUL byte"));
        }
        if part.len() > MAX_NAME {
            return Err(ArchiveError::Limit {
                what: "bytes in a file name",
                limit: MAX_NAME as u64,
            });
        }
    }
    Ok(parts)
}

fn split(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
}

fn refused(path: &[u8], why: &'static str) -> ArchiveError {
    /// Of a path in a message.
    const SHOWN: usize = 200;
    ArchiveError::Refused {
        path: String::from_utf8_lossy(&path[..path.len().min(SHOWN)]).into_owned(),
        why,
    }
}
