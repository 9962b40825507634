//! One directory that is watched. Everything here may block.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use emberbox_guest::watch::WATCHED_DIRECTORIES;
use emberbox_guest::{ChangeKind, FileChange, GuestError, GuestErrorCode, WatchEvent, WatchSpec};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};

use super::queue::{Change, Leaving, Queue, What};
use super::tree::{Reach, Tree};
use crate::files::{check_path, failed, is_temporary};

/// Reads of the kernel's queue before what they gave is told: some thousand
/// events.
const READS: usize = 32;

/// A directory and what is not told of it yet.
pub(super) struct Watcher {
    tree: Tree,
    reach: Reach,
    queue: Queue,
    /// What was found in directories that came with content, whose own events
    /// may still come: they would tell it twice.
    found: HashSet<(WatchDescriptor, OsString)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    /// The kernel dropped events.
    Lost,
    /// The directory itself is gone.
    Over,
}

/// What a reading brought.
pub(super) enum News {
    /// These, and whether more may be there already.
    Events { events: Vec<WatchEvent>, more: bool },
    /// These, and everything is watched anew, through another descriptor.
    Renewed(Vec<WatchEvent>),
    /// These, and the directory itself is gone.
    Over(Vec<WatchEvent>),
}

impl Watcher {
    /// Begins to watch.
    pub(super) fn open(spec: &WatchSpec) -> Result<Self, GuestError> {
        check_path(&spec.path)?;
        // Without slashes at the end and doubled ones.
        let root: PathBuf = Path::new(&spec.path).components().collect();
        let reach = if spec.recursive {
            Reach::Below
        } else {
            Reach::Directory
        };
        let (tree, cut) = Tree::new(&root, reach).map_err(|error| refusal(&spec.path, &error))?;
        if cut {
            return Err(GuestError::new(
                GuestErrorCode::LimitReached,
                format_args!(
                    "more directories are below {} than can be watched (at most \
                     {WATCHED_DIRECTORIES}); watch a smaller one, or not what is below it",
                    spec.path
                ),
            ));
        }
        Ok(Self {
            tree,
            reach,
            queue: Queue::default(),
            found: HashSet::new(),
            state: State::Watching,
        })
    }

    /// A descriptor that is readable when there is news.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.tree.descriptor()
    }

    /// When there is news without anything to read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.due()
    }

    /// What happened since.
    pub(super) fn read(&mut self) -> News {
        let mut more = true;
        for _ in 0..READS {
            let events = self.tree.read().unwrap_or_else(|_broken| {
                self.state = State::Lost;
                Vec::new()
            });
            if events.is_empty() {
                // What was found has told its own events by now.
                self.found.clear();
                more = false;
                break;
            }
            for event in events {
                self.take(event);
            }
            if self.state != State::Watching {
                break;
            }
        }
        let gone = self.queue.give_up(Instant::now());
        self.tree.leave(&gone);
        match self.state {
            State::Watching => News::Events {
                events: self.told(),
                more,
            },
            State::Lost => self.renew(),
            State::Over => {
                self.queue.give_up_all();
                News::Over(self.told())
            }
        }
    }

    fn take(&mut self, event: InotifyEvent) {
        let InotifyEvent {
            wd: watch,
            mask,
            cookie,
            name,
        } = event;
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            self.state = State::Lost;
            return;
        }
        let Some(name) = name else {
            return self.itself(watch, mask);
        };
        let Some(directory) = self.tree.path_of(watch) else {
            return;
        };
        // A file that is being written is told once it stands under its name.
        if is_temporary(&name) {
            return;
        }
        let path = directory.join(&name);
        let is_dir = mask.contains(AddWatchFlags::IN_ISDIR);
        let change = |what| Change {
            what,
            path: path.clone(),
            is_dir,
        };
        let was_found =
            !mask.contains(AddWatchFlags::IN_MODIFY) && self.found.remove(&(watch, name));
        if mask.contains(AddWatchFlags::IN_MODIFY) {
            self.queue.push(change(What::Modified));
        } else if mask.contains(AddWatchFlags::IN_DELETE) {
            self.queue.push(change(What::Deleted));
        } else if mask.contains(AddWatchFlags::IN_MOVED_FROM) {
            let watches = if is_dir {
                self.tree.below(&path)
            } else {
                Vec::new()
            };
            let leaving = Leaving {
                cookie,
                path,
                is_dir,
                watches,
            };
            self.queue.leave(leaving, Instant::now());
        } else if was_found {
            // Told as created already; where it came from was deleted.
            self.queue.give_up_half(cookie);
        } else if mask.contains(AddWatchFlags::IN_MOVED_TO)
            && let Some(left) = self.queue.arrive(cookie, &path)
        {
            self.tree.moved(&left.watches, &left.path, &path);
        } else {
            self.queue.push(change(What::Created));
            if is_dir && self.reach == Reach::Below {
                self.enter(&path);
            }
        }
    }

    /// An event of a watched directory itself.
    fn itself(&mut self, watch: WatchDescriptor, mask: AddWatchFlags) {
        let gone = AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_IGNORED;
        if self.tree.is_root(watch) && mask.intersects(gone) {
            self.root_is_gone();
        } else if mask.contains(AddWatchFlags::IN_IGNORED) {
            self.tree.dropped(watch);
        }
    }

    fn root_is_gone(&mut self) {
        if self.state != State::Over {
            self.state = State::Over;
            self.queue.push(Change {
                what: What::Deleted,
                path: self.tree.root().to_owned(),
                is_dir: true,
            });
        }
    }

    /// A directory came, perhaps with content.
    fn enter(&mut self, path: &Path) {
        let found = self.tree.enter(path);
        for entry in found.entries {
            if is_temporary(&entry.name) {
                continue;
            }
            self.queue.push(Change {
                what: What::Created,
                path: entry.path,
                is_dir: entry.is_dir,
            });
            self.found.insert((entry.watch, entry.name));
        }
        if found.cut {
            self.overflow();
        }
    }

    fn overflow(&mut self) {
        self.queue.push(Change {
            what: What::Overflow,
            path: self.tree.root().to_owned(),
            is_dir: true,
        });
    }

    /// Watches everything anew: which directories there are is not known.
    fn renew(&mut self) -> News {
        self.queue.give_up_all();
        self.found.clear();
        self.overflow();
        match Tree::new(self.tree.root(), self.reach) {
            Ok((tree, _cut)) => {
                self.tree = tree;
                self.state = State::Watching;
                News::Renewed(self.told())
            }
            Err(_gone) => {
                self.root_is_gone();
                News::Over(self.told())
            }
        }
    }

    fn told(&mut self) -> Vec<WatchEvent> {
        self.queue.take().into_iter().map(told).collect()
    }
}

fn refusal(path: &str, error: &io::Error) -> GuestError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC | Errno::ENOMEM) => GuestError::new(
            GuestErrorCode::LimitReached,
            "the sandbox's kernel has no room for more watches",
        ),
        Some(Errno::ENOTDIR) => GuestError::new(
            GuestErrorCode::NotADirectory,
            format_args!("{path} is not a directory"),
        ),
        Some(_) | None => failed("watch", path, error),
    }
}

fn told(change: Change) -> WatchEvent {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let kind = match change.what {
        What::Created => ChangeKind::Created,
        What::Modified => ChangeKind::Modified,
        What::Deleted => ChangeKind::Deleted,
        What::Renamed { from } => ChangeKind::Renamed { from: text(&from) },
        What::Overflow => return WatchEvent::Overflow,
    };
    let size = match kind {
        ChangeKind::Deleted => None,
        ChangeKind::Created | ChangeKind::Modified | ChangeKind::Renamed { .. } => {
            let metadata = fs::symlink_metadata(&change.path).ok();
            metadata
                .filter(|metadata| !metadata.is_dir())
                .map(|metadata| metadata.len())
        }
    };
    WatchEvent::Changed(FileChange {
        kind,
        path: text(&change.path),
        is_dir: change.is_dir,
        size,
    })
}
