//! The writable disk of a sandbox.
//!
//! A sparse file that holds an empty ext4, thrown away with its sandbox: so no
//! journal, and nothing is written that the kernel can set up when it is used.

use std::fs::{self, OpenOptions};
use std::path::Path;

use crate::command::Run;
use crate::error::ImageError;

/// All disks have the same id and hash seed: nothing looks them up by it, and
/// equal disks can share pages and compress to nothing.
const UUID: &str = "656d6265-7262-6f78-0000-736372617463";

/// One inode per 16 KiB, ext4's own default, said here so that the host's
/// /etc/mke2fs.conf cannot change it.
const BYTES_PER_INODE: &str = "16384";

/// Makes a disk of `disk_mib` at `path`, which must not exist yet. A failure
/// leaves no file.
pub fn make(path: &Path, disk_mib: u32) -> Result<(), ImageError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(ImageError::io("create", path))?;
    let made = file
        .set_len(u64::from(disk_mib) << 20)
        .map_err(ImageError::io("grow", path))
        .and_then(|()| format(path));
    if made.is_err() {
        // The first failure is the one worth telling.
        let _ = fs::remove_file(path);
    }
    made
}

fn format(path: &Path) -> Result<(), ImageError> {
    let extended =
        format!("lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,hash_seed={UUID}");
    Run::new("mkfs.ext4")?
        // The time stamps of the superblock and the root directory.
        .env("E2FSPROGS_FAKE_TIME", "1")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096"])
        // No journal: after a crash the sandbox is gone, not repaired. No
        // resize_inode: its reserved blocks would be written. No checksums:
        // the host's own disk has them, and every block would pay.
        .args([
            "-O",
            "^has_journal,^resize_inode,^metadata_csum,uninit_bg,extent,sparse_super2,flex_bg",
        ])
        .args(["-i", BYTES_PER_INODE, "-U", UUID, "-E", &extended])
        .arg(path)
        .output()?;
    Ok(())
}

#[cfg(test)]
mod tests;
