//! The rig's system: made once from the distribution's packages.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{self, root};

/// Raised when the image is made in another way.
const FORMAT: &str = "2";

/// Which Debian.
const SUITE: &str = "bookworm";

/// What is in it: a kernel with KVM, and what Emberbox and its tests call.
const PACKAGES: &str = "linux-image-amd64,initramfs-tools,zstd,kmod,mount,hostname,iproute2,nftables,procps,\
     e2fsprogs,erofs-utils,ca-certificates,curl,jq,python3-minimal,apt,mmdebstrap";

/// The disk, which takes only what is written of it.
const DISK: &str = "12G";

/// What the initramfs needs to find the disk.
const BOOT_MODULES: &str = "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n";

/// The first process: what cannot wait for the share with the rest.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2> /dev/null
mkdir -p /rig /dev/pts /dev/shm
modprobe -a 9p 9pnet_virtio virtio_net virtio_rng
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 rig /rig
sh /rig/start
echo o > /proc/sysrq-trigger
exec sleep 60
";

/// The files a rig boots from.
pub(super) struct Image {
    pub(super) disk: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
}

impl Image {
    fn in_dir(dir: &Path) -> Self {
        Self {
            disk: dir.join("disk.ext4"),
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd"),
        }
    }

    /// The cached image; made if there is none, which takes some minutes.
    pub(super) fn ensure() -> Result<Self> {
        let rigs = root().join("target/rig");
        let dir = rigs.join(format!("{SUITE}-{FORMAT}"));
        if !dir.is_dir() {
            fs::create_dir_all(&rigs)?;
            let unfinished = tempfile::Builder::new()
                .prefix("unfinished-")
                .tempdir_in(&rigs)?;
            make(unfinished.path())?;
            fs::rename(unfinished.path(), &dir).context("cannot keep the rig's image")?;
        }
        Ok(Self::in_dir(&dir))
    }
}

fn make(dir: &Path) -> Result<()> {
    let (image, tree) = (Image::in_dir(dir), dir.join("tree"));
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let hooks = dir.join("hook");
    let mut hook = fs::File::create(&hooks)?;
    writeln!(
        hook,
        "#!/bin/sh\nset -e\n\
         printf 'MODULES=list\\nCOMPRESS=zstd\\n' > \"$1/etc/initramfs-tools/conf.d/rig\"\n\
         cat > \"$1/etc/initramfs-tools/modules\" <<'END'\n{BOOT_MODULES}END\n\
         cat > \"$1/rig-init\" <<'END'\n{INIT}END\n\
         chmod 755 \"$1/rig-init\"\n\
         chroot \"$1\" update-initramfs -u"
    )?;
    hook.set_permissions(fs::Permissions::from_mode(0o755))?;
    drop(hook);
    command::run(
        Command::new("mmdebstrap")
            .args(["--variant=essential", "--quiet"])
            .arg(format!("--include={PACKAGES}"))
            .arg(format!("--customize-hook={}", hooks.display()))
            .arg(SUITE)
            .arg(&tree),
    )?;
    for (prefix, to) in [("vmlinuz-", &image.kernel), ("initrd.img-", &image.initrd)] {
        fs::copy(only(&tree.join("boot"), prefix)?, to)?;
    }
    command::run(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(&tree)
            .arg(&image.disk)
            .arg(DISK),
    )?;
    fs::remove_dir_all(&tree).context("cannot remove the tree")
}

fn only(dir: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("no {prefix}* in {}", dir.display())
}
