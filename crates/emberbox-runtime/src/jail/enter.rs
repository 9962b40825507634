//! Inside the jail process: the steps that cannot be undone.
#![expect(
    unsafe_code,
    reason = "raw clone(2) and taking over an inherited descriptor"
)]

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, pivot_root, setgroups, setresgid, setresuid, setsid};

use super::{Confinement, DESCRIPTORS, JailError, JailSpec, shown, step};

/// System directories a dynamically linked VMM reads: libraries and firmware.
const SYSTEM: [&str; 5] = ["usr", "lib", "lib64", "bin", "etc/ld.so.cache"];

/// Takes over a descriptor number the parent passed.
pub(super) fn own_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: the launcher's contract: the number was passed for this process
    // alone, which is single-threaded and has not touched it before.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Forks into a new PID namespace with the *server* as parent, so that it can
/// reap the VMM. `Some(pid)` in the caller, `None` in the new process.
pub(super) fn clone_as_sibling() -> Result<Option<i32>, Errno> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is fork(2): the child
    // gets a copy of this single-threaded process.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match Errno::result(pid)? {
        0 => Ok(None),
        // A pid fits i32 by the kernel's own limit (PID_MAX_LIMIT = 2^22).
        pid => Ok(Some(pid as i32)),
    }
}

/// Confines this process and becomes the VMM; returns only on failure.
pub(super) fn confine_and_exec(spec: &JailSpec) -> Result<(), JailError> {
    step("make a session", setsid())?;
    let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    step("make mounts private", mount(none, "/", none, private, none))?;
    match &spec.confinement {
        Confinement::Complete { root, devices, .. } => build_root(root, devices, &spec.program)?,
        Confinement::ByTheProgram { root, files } => {
            shown::files(root, files)?;
            // A jailer looks at its own process, which has another number here.
            step("mount /proc", mount_proc(Path::new("/proc")))?;
        }
        Confinement::RootOnly { root, files } => {
            shown::files(root, files)?;
            step("enter the root", chdir(root.as_path()))?;
            step("enter the root", chroot("."))?;
        }
    }
    step("limit core files", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    step(
        "limit descriptors",
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS),
    )?;
    if let Confinement::Complete { uid, .. } = spec.confinement {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
        step("drop groups", setgroups(&[]))?;
        step("drop the group", setresgid(gid, gid, gid))?;
        step("drop the user", setresuid(uid, uid, uid))?;
    }
    step("forbid new privileges", nix::sys::prctl::set_no_new_privs())?;
    let error = Command::new(&spec.program)
        .args(&spec.args)
        .env_clear()
        .exec();
    Err(JailError {
        step: "run the VMM",
        source: error,
    })
}

fn build_root(root: &Path, devices: &[PathBuf], program: &Path) -> Result<(), JailError> {
    let none = None::<&str>;
    let tmpfs = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("mode=755,size=64k");
    step(
        "mount the jail's root",
        mount(Some("jail"), root, Some("tmpfs"), tmpfs, options),
    )?;

    let own = program
        .strip_prefix("/")
        .ok()
        .filter(|path| !path.starts_with("usr"));
    for path in SYSTEM.iter().map(Path::new).chain(own) {
        step("show system libraries", show(root, path, Shown::ReadOnly))?;
    }
    for device in devices {
        let path = device.strip_prefix("/").unwrap_or(device);
        step("show a device", show(root, path, Shown::Device))?;
    }
    let proc = root.join("proc");
    step("make /proc", fs::create_dir(&proc))?;
    step("mount /proc", mount_proc(&proc))?;

    step("enter the jail's root", chdir(root))?;
    step("enter the jail's root", pivot_root(".", "."))?;
    step("leave the host's root", umount2(".", MntFlags::MNT_DETACH))?;
    step("enter the jail's root", chdir("/"))?;
    let seal = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | tmpfs;
    step(
        "seal the jail's root",
        mount(none, "/", none, seal, options),
    )
}

fn mount_proc(at: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    mount(Some("proc"), at, Some("proc"), flags, None::<&str>)
}

/// How a path of the host appears in the jail.
#[derive(Clone, Copy)]
enum Shown {
    ReadOnly,
    /// A device node keeps working as one.
    Device,
}

/// Shows one path of the host inside the root: a link as a link, a directory
/// or file by a bind mount. What the host lacks, the jail lacks.
fn show(root: &Path, path: &Path, shown: Shown) -> io::Result<()> {
    let source = Path::new("/").join(path);
    let target = root.join(path);
    let Ok(metadata) = fs::symlink_metadata(&source) else {
        return Ok(());
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        return symlink(fs::read_link(&source)?, &target);
    }
    if metadata.is_dir() {
        fs::create_dir(&target)?;
    } else {
        fs::write(&target, "")?;
    }
    let none = None::<&str>;
    mount(
        Some(source.as_path()),
        &target,
        none,
        MsFlags::MS_BIND,
        none,
    )?;
    match shown {
        Shown::Device => Ok(()),
        Shown::ReadOnly => {
            let remount = MsFlags::MS_REMOUNT
                | MsFlags::MS_BIND
                | MsFlags::MS_RDONLY
                | MsFlags::MS_NOSUID
                | MsFlags::MS_NODEV;
            Ok(mount(none, &target, none, remount, none)?)
        }
    }
}
