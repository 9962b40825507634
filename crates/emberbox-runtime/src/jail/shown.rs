//! Single files of the host in the root of a VMM that opens its files by name.
//!
//! They are bind mounts in the mount namespace of this process and whatever it
//! becomes: the host's own view of the root holds only empty files.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::{Access, JailError, ShownFile, step};

/// Shows all of them. The root must be there and be written by nobody else.
pub(super) fn files(root: &Path, files: &[ShownFile]) -> Result<(), JailError> {
    for file in files {
        step("show a file", show(root, file))?;
    }
    Ok(())
}

fn show(root: &Path, file: &ShownFile) -> io::Result<()> {
    let target = root.join(&file.name);
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&target)?;
    let none = None::<&str>;
    let source = file.source.as_path();
    mount(Some(source), &target, none, MsFlags::MS_BIND, none)?;
    let flags = match file.access {
        Access::Read => MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Access::Write => MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Access::Execute => MsFlags::MS_RDONLY | MsFlags::MS_NODEV,
        Access::Device => MsFlags::MS_NOEXEC,
    };
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | flags;
    Ok(mount(none, &target, none, remount, none)?)
}
