//! Network namespaces: made, found, entered by threads of their own, removed.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::{mpsc, oneshot};

use super::ledger::absent_is_fine;
use super::{Instance, NetError, SlotIndex};

/// Where `ip netns` looks.
const DIRECTORY: &str = "/run/netns";

/// Jobs waiting for the namespace thread before callers wait too. A job takes
/// microseconds; this many means the machine is at its end.
const JOBS: usize = 256;

/// The name `ip netns` shows.
pub(super) fn name(instance: Instance, index: SlotIndex) -> String {
    format!("emberbox-{instance}-{index}")
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes the directory of named namespaces the way `ip netns` does, so that
/// removing a name removes it from every mount namespace. The caller holds the
/// machine lock.
pub(super) fn prepare_directory() -> Result<(), NetError> {
    let doing = || format!("prepare {DIRECTORY}");
    fs::create_dir_all(DIRECTORY).map_err(NetError::io(doing()))?;
    let none = None::<&str>;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(none, DIRECTORY, none, flags, none)
    };
    match share() {
        // Not a mount point yet.
        Err(nix::Error::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIRECTORY), DIRECTORY, none, flags, none)
                .and_then(|()| share())
                .map_err(NetError::errno(doing()))
        }
        other => other.map_err(NetError::errno(doing())),
    }
}

/// Makes a namespace under `name` and runs `work` in it, on a thread of its
/// own. If this fails, [`remove`] undoes whatever was done.
pub(super) async fn create<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<(OwnedFd, T), NetError> {
    on_new_thread(move || {
        let path = path(&name);
        let doing = || format!("make namespace {name}");
        File::create_new(&path).map_err(NetError::io(doing()))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(NetError::errno(doing()))?;
        let none = None::<&str>;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(Some(own), &path, none, MsFlags::MS_BIND, none).map_err(NetError::errno(doing()))?;
        let netns = File::open(&path).map_err(NetError::io(doing()))?;
        Ok((netns.into(), work()?))
    })
    .await
}

/// Opens an existing namespace.
pub(super) fn open(name: &str) -> Result<OwnedFd, NetError> {
    let doing = || format!("open namespace {name}");
    let file = File::open(path(name)).map_err(NetError::io(doing()))?;
    // A name left behind without its mount is an ordinary, empty file.
    let kind = nix::sys::statfs::fstatfs(&file).map_err(NetError::errno(doing()))?;
    if kind.filesystem_type() != nix::sys::statfs::NSFS_MAGIC {
        return Err(NetError::io(doing())(io::ErrorKind::NotFound.into()));
    }
    Ok(file.into())
}

/// Removes a namespace's name, however far its making got. The namespace ends
/// with its last process and descriptor. Idempotent.
pub(super) fn remove(name: &str) -> Result<(), NetError> {
    let path = path(name);
    let doing = || format!("remove namespace {name}");
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // Not mounted (any more), or never made.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(error) => return Err(NetError::errno(doing())(error)),
        }
    }
    absent_is_fine(fs::remove_file(&path)).map_err(NetError::io(doing()))
}

/// The slots of `instance` that have a namespace, whole or half made.
pub(super) fn list(instance: Instance) -> Result<Vec<SlotIndex>, NetError> {
    let prefix = format!("emberbox-{instance}-");
    let doing = || NetError::io(format!("list {DIRECTORY}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(DIRECTORY).map_err(doing())? {
        let name = entry.map_err(doing())?.file_name();
        let index = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        found.extend(index.and_then(|index| index.parse().ok()).map(SlotIndex));
    }
    Ok(found)
}

/// Runs `work` on a new thread inside `netns` and waits for it.
pub(super) async fn run_in<T: Send + 'static>(
    netns: Arc<OwnedFd>,
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    on_new_thread(move || {
        enter(&netns).map_err(NetError::io("enter a namespace"))?;
        work()
    })
    .await
}

/// Runs `work` on a new thread inside `netns` and blocks for it: for calls of
/// a few microseconds only.
pub(super) fn run_in_blocking<T: Send>(
    netns: &OwnedFd,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = move || enter(netns).and_then(|()| work());
        let thread = thread::Builder::new().spawn_scoped(scope, inside)?;
        thread
            .join()
            .map_err(|_panic| io::Error::other("the thread in the namespace panicked"))?
    })
}

fn enter(netns: impl AsFd) -> io::Result<()> {
    Ok(setns(netns, CloneFlags::CLONE_NEWNET)?)
}

async fn on_new_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    let (answer, result) = oneshot::channel();
    thread::Builder::new()
        .name("netns-make".to_owned())
        .spawn(move || {
            // Whoever asked has gone: what was made is in the ledger.
            let _unheard = answer.send(work());
        })
        .map_err(NetError::io("start a thread"))?;
    result.await.unwrap_or_else(|_panicked| {
        let panicked = io::Error::other("the thread in the namespace panicked");
        Err(NetError::io("work in a namespace")(panicked))
    })
}

type Work = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One thread that makes sockets inside namespaces for everybody else.
#[derive(Clone)]
pub(super) struct NamespaceThread {
    jobs: mpsc::Sender<(Arc<OwnedFd>, Work)>,
}

impl NamespaceThread {
    /// Starts the thread; it ends when the last clone is dropped.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<(Arc<OwnedFd>, Work)>(JOBS);
        let home = File::open("/proc/thread-self/ns/net")?;
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                while let Some((netns, work)) = queue.blocking_recv() {
                    work(enter(&*netns));
                    // Staying would keep a removed namespace alive.
                    if let Err(error) = enter(&home) {
                        tracing::warn!(%error, "cannot leave a network namespace");
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs `work`, which must not block, inside `netns`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        netns: &Arc<OwnedFd>,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (answer, result) = oneshot::channel();
        let job: Work = Box::new(move |entered| {
            let _unheard = answer.send(entered.and_then(|()| work()));
        });
        let ended = || io::Error::other("the namespace thread has ended");
        self.jobs
            .send((Arc::clone(netns), job))
            .await
            .map_err(|_closed| ended())?;
        result.await.unwrap_or_else(|_dropped| Err(ended()))
    }
}
