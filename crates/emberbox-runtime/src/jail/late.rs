//! Single files of the host in the root of a VMM that runs already.
//!
//! Each is a mount of its own that is made here and moved into the VMM's mount
//! namespace, which a thread enters for that and never leaves: the host's own
//! view of the root holds only empty files, as with [`super::shown`].
//!
//! Invariant: the VMM has not run anything of a user yet. Its root is its own;
//! what appears there is still put by name into an open directory, and never
//! through a link.
#![expect(unsafe_code, reason = "mount_setattr(2) has no wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{Access, ShownFile};

/// Whether this machine's kernel can: Linux 5.12 and newer.
pub(crate) fn is_possible() -> bool {
    // Wrong arguments are told from no such call.
    set_attributes(-1, None) != Err(Errno::ENOSYS)
}

/// Shows files to a VMM, named by its number and its descriptor, whose root is
/// this directory as the host sees it. The number must be its own: of a child
/// for which nobody has waited.
pub(crate) fn show(
    pid: i32,
    pidfd: impl AsFd,
    root: impl AsFd,
    files: &[ShownFile],
) -> io::Result<()> {
    let mut mounts = Vec::with_capacity(files.len());
    for file in files {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(root.as_fd(), &file.name, flags, Mode::RUSR)?;
        mounts.push((mount(file)?, file.name.as_str()));
    }
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = open(path, flags, Mode::empty())?;
    thread::scope(|scope| {
        let (vmm, inside) = (pidfd.as_fd(), inside.as_fd());
        let entered = scope.spawn(move || move_all(vmm, inside, &mounts));
        entered.join().expect("it does not panic")
    })
}

/// A mount of one file that is nowhere yet.
fn mount(file: &ShownFile) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &file.source, flags)?;
    let nosuid = libc::MOUNT_ATTR_NOSUID;
    let attributes = match file.access {
        Access::Read => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
        Access::Write => libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
        Access::Execute => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
        Access::Device => libc::MOUNT_ATTR_NOEXEC,
    };
    let attributes = libc::mount_attr {
        attr_set: nosuid | attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    set_attributes(tree.as_raw_fd(), Some(&attributes))?;
    Ok(tree)
}

fn set_attributes(mount: RawFd, attributes: Option<&libc::mount_attr>) -> Result<(), Errno> {
    let pointer = attributes.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the path is an empty C string; the structure, if there is one,
    // outlives the call, and its size is what the kernel is told.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            pointer,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(set).map(drop)
}

/// Moves mounts into a root. The calling thread is in the VMM's mount
/// namespace afterwards.
fn move_all(
    vmm: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    mounts: &[(OwnedFd, &str)],
) -> io::Result<()> {
    // Who shares its working directory with others may not change namespaces.
    unshare(CloneFlags::CLONE_FS)?;
    setns(vmm, CloneFlags::CLONE_NEWNS)?;
    for (tree, name) in mounts {
        move_mount(
            tree,
            "",
            root,
            *name,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
    }
    Ok(())
}
