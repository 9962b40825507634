//! File systems: the kernel's own, the disks, and the root made of them.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::{BootError, Doing};

/// How long a disk or network device may take to show. Probing is done when
/// its module is loaded; only a slow emulation makes this wait at all.
const DEVICE_DEADLINE: Duration = Duration::from_secs(10);

/// Pause between two looks for a device.
const DEVICE_PAUSE: Duration = Duration::from_millis(1);

/// Where the new root is put together, in the initramfs.
const ROOT: &str = "/sysroot";
const SCRATCH: &str = "/scratch";
/// What differs from the layers, on the scratch disk.
pub(crate) const UPPER: &str = "upper";
/// Short, because all of them stand in one option string of at most a page.
const LAYERS: &str = "/l";

/// For a disk that lives as long as its VM and is copied only together with
/// its memory: nothing has to survive a power cut, so nothing waits for it.
const SCRATCH_OPTIONS: &str = "barrier=0,noauto_da_alloc,noinit_itable";

/// Mounts what every process expects from a kernel.
pub(super) fn kernel_file_systems() -> Result<(), BootError> {
    let hidden = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let private = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let device = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    attach("proc", "/proc", hidden, "")?;
    attach("sysfs", "/sys", hidden, "")?;
    attach("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755")?;
    attach(
        "devpts",
        "/dev/pts",
        device,
        "gid=5,mode=0620,ptmxmode=0666",
    )?;
    attach("tmpfs", "/dev/shm", private, "mode=1777")?;
    attach("tmpfs", "/run", private, "mode=0755")?;
    attach("cgroup2", "/sys/fs/cgroup", hidden, "")?;
    make_directory("/run/lock", 0o1777)?;
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        symlink(target, link).doing(format!("link {link}"))?;
    }
    Ok(())
}

/// Makes the overlay of the first `layers` disks and the scratch disk after
/// them, and makes it `/`.
pub(super) fn switch_to_root(layers: usize) -> Result<(), BootError> {
    let mut lower = Vec::new();
    for index in 0..layers {
        let directory = format!("{LAYERS}/{index}");
        attach_disk(index, "erofs", &directory, MsFlags::MS_RDONLY, "")?;
        lower.push(directory);
    }
    // The kernel wants the highest first.
    lower.reverse();
    let noatime = MsFlags::MS_NOATIME;
    attach_disk(layers, "ext4", SCRATCH, noatime, SCRATCH_OPTIONS)?;
    let (upper, work) = (format!("{SCRATCH}/{UPPER}"), format!("{SCRATCH}/work"));
    make_directory(&upper, 0o755)?;
    make_directory(&work, 0o755)?;
    // Without redirect_dir a rename of a template's directory is refused.
    let options = format!(
        "lowerdir={},upperdir={upper},workdir={work},redirect_dir=on",
        lower.join(":")
    );
    attach("overlay", ROOT, noatime, &options)?;
    for directory in ["/proc", "/sys", "/dev", "/run"] {
        let target = format!("{ROOT}{directory}");
        make_directory(&target, 0o755)?;
        move_mount(directory, &target)?;
    }
    std::env::set_current_dir(ROOT).doing("enter the new root")?;
    move_mount(".", "/")?;
    nix::unistd::chroot(".").doing("change the root")?;
    std::env::set_current_dir("/").doing("enter the new root")?;
    make_directory("/tmp", 0o1777)?;
    make_directory("/workspace", 0o755)
}

/// Mounts the scratch disk, which is in use, a second time. It comes after
/// `layers` disks.
pub(super) fn scratch_again(layers: usize, target: &str) -> Result<(), BootError> {
    attach_disk(layers, "ext4", target, MsFlags::MS_NOATIME, "")
}

/// Waits until `path` is there.
pub(super) fn wait_for(path: &str) -> bool {
    let deadline = Instant::now() + DEVICE_DEADLINE;
    while !Path::new(path).exists() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(DEVICE_PAUSE);
    }
    true
}

fn attach_disk(
    index: usize,
    kind: &str,
    target: &str,
    flags: MsFlags,
    options: &str,
) -> Result<(), BootError> {
    let letter = u8::try_from(index)
        .ok()
        .filter(|index| *index < 26)
        .map(|index| char::from(b'a' + index))
        .expect("the command line allows no more disks than letters");
    let disk = format!("/dev/vd{letter}");
    if !wait_for(&disk) {
        return Err(BootError::NoDisk(disk));
    }
    make_directory(target, 0o755)?;
    mount(Some(&*disk), target, Some(kind), flags, Some(options))
        .doing(format!("mount {disk} as {kind}"))
}

fn attach(kind: &str, target: &str, flags: MsFlags, options: &str) -> Result<(), BootError> {
    // Of its mode only the mounted file system's counts, and the kernel lets
    // nobody change some of these.
    fs::create_dir_all(target).doing(format!("make {target}"))?;
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .doing(format!("mount {kind} on {target}"))
}

fn move_mount(from: &str, to: &str) -> Result<(), BootError> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .doing(format!("move {from} to {to}"))
}

/// Makes sure of a directory with this mode; an existing one with another mode
/// is corrected.
fn make_directory(path: &str, mode: u32) -> Result<(), BootError> {
    let made = || -> io::Result<()> {
        fs::create_dir_all(path)?;
        if fs::metadata(path)?.permissions().mode() & 0o7777 != mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    };
    made().doing(format!("make {path}"))
}
