//! Which directories are watched, and under which paths.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use emberbox_guest::watch::WATCHED_DIRECTORIES;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// Most paths told of a directory that came with content. More is an overflow.
const FOUND: usize = 4096;

/// What is asked of every directory.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What is asked of the topmost one besides: its own end.
const OWN_END: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);

/// The watches of one call.
pub(super) struct Tree {
    inotify: Inotify,
    root: PathBuf,
    root_watch: WatchDescriptor,
    /// Other file systems below the root are left alone.
    device: u64,
    paths: HashMap<WatchDescriptor, PathBuf>,
}

/// How much of a directory is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Itself.
    Directory,
    /// And everything below.
    Below,
}

/// What was in a directory when its watch began.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<FoundEntry>,
    /// Whether there was more, or more than can be watched.
    pub(super) cut: bool,
}

/// One path of it.
#[derive(Debug)]
pub(super) struct FoundEntry {
    /// The directory it is in.
    pub(super) watch: WatchDescriptor,
    pub(super) name: OsString,
    pub(super) path: PathBuf,
    pub(super) is_dir: bool,
}

impl Tree {
    /// Watches a directory, and says whether more should be than can be.
    pub(super) fn new(root: &Path, reach: Reach) -> io::Result<(Self, bool)> {
        let device = fs::metadata(root)?.dev();
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let root_watch = inotify.add_watch(root, CHANGES | OWN_END)?;
        let mut tree = Self {
            inotify,
            root: root.to_owned(),
            root_watch,
            device,
            paths: HashMap::from([(root_watch, root.to_owned())]),
        };
        let cut = match reach {
            Reach::Directory => false,
            Reach::Below => tree.walk(root_watch, root.to_owned()).cut,
        };
        Ok((tree, cut))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn is_root(&self, watch: WatchDescriptor) -> bool {
        watch == self.root_watch
    }

    /// A descriptor that is readable when there are events.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.inotify.as_fd().try_clone_to_owned()
    }

    /// The next events, none if there are none now.
    pub(super) fn read(&self) -> Result<Vec<InotifyEvent>, Errno> {
        match self.inotify.read_events() {
            Err(Errno::EAGAIN) => Ok(Vec::new()),
            events => events,
        }
    }

    /// Where an event happened.
    pub(super) fn path_of(&self, watch: WatchDescriptor) -> Option<&Path> {
        self.paths.get(&watch).map(PathBuf::as_path)
    }

    /// The kernel has dropped a watch.
    pub(super) fn dropped(&mut self, watch: WatchDescriptor) {
        self.paths.remove(&watch);
    }

    /// Watches a directory that is new here, with all that is below it.
    pub(super) fn enter(&mut self, path: &Path) -> Found {
        match self.watch(path) {
            Ok(Some(watch)) => self.walk(watch, path.to_owned()),
            Ok(None) => Found::default(),
            Err(Full) => Found {
                cut: true,
                ..Found::default()
            },
        }
    }

    /// The watches on a directory and below.
    pub(super) fn below(&self, path: &Path) -> Vec<WatchDescriptor> {
        let watches = self.paths.iter();
        watches
            .filter(|(_, watched)| watched.starts_with(path))
            .map(|(watch, _)| *watch)
            .collect()
    }

    /// What was at `from` is at `to` now.
    pub(super) fn moved(&mut self, watches: &[WatchDescriptor], from: &Path, to: &Path) {
        for watch in watches {
            if let Some(path) = self.paths.get_mut(watch)
                && let Ok(rest) = path.strip_prefix(from)
            {
                // Joining nothing would leave a slash at the end.
                *path = if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                };
            }
        }
    }

    /// What these watch is not of this tree any more.
    pub(super) fn leave(&mut self, watches: &[WatchDescriptor]) {
        for watch in watches {
            if self.paths.remove(watch).is_some() {
                // It may have ended with its directory.
                let _ = self.inotify.rm_watch(*watch);
            }
        }
    }

    fn walk(&mut self, watch: WatchDescriptor, path: PathBuf) -> Found {
        let mut found = Found::default();
        let mut waiting = vec![(watch, path)];
        while let Some((watch, directory)) = waiting.pop() {
            // One that is gone by now tells so itself.
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let path = entry.path();
                if is_dir {
                    match self.watch(&path) {
                        Ok(Some(below)) => waiting.push((below, path.clone())),
                        Ok(None) => {}
                        Err(Full) => found.cut = true,
                    }
                }
                if found.entries.len() < FOUND {
                    found.entries.push(FoundEntry {
                        watch,
                        name: entry.file_name(),
                        path,
                        is_dir,
                    });
                } else {
                    found.cut = true;
                }
            }
        }
        found
    }

    /// `None` for what is not of this file system, or not there any more.
    fn watch(&mut self, path: &Path) -> Result<Option<WatchDescriptor>, Full> {
        if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.dev() == self.device) {
            return Ok(None);
        }
        if self.paths.len() >= WATCHED_DIRECTORIES {
            return Err(Full);
        }
        let flags = CHANGES | AddWatchFlags::IN_DONT_FOLLOW;
        match self.inotify.add_watch(path, flags) {
            Ok(watch) => {
                self.paths.insert(watch, path.to_owned());
                Ok(Some(watch))
            }
            Err(Errno::ENOSPC | Errno::ENOMEM) => Err(Full),
            Err(_gone) => Ok(None),
        }
    }
}

/// No more can be watched.
struct Full;
