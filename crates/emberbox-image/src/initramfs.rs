//! The initramfs: the agent as `/init`, and the modules it loads.
//!
//! The archive is not compressed: under emulation zstd costs each boot 70 to
//! 270 ms and saves 2.6 MB of a file that all guests share.

use std::fs;
use std::path::PathBuf;

use cpio::newc::{self, ModeFileType};

use crate::digest;
use crate::error::ImageError;
use crate::home::Home;
use crate::kernel::Kernel;
use crate::progress::Progress;

/// Raised when the layout of the archive changes.
const FORMAT: &str = "initramfs 1";

/// Where the agent expects to find or to mount something.
const DIRECTORIES: [&str; 8] = [
    "dev", "modules", "newroot", "proc", "root", "run", "sys", "tmp",
];

/// The archive for this kernel and this agent; made if it is not in the home.
pub(crate) fn ensure(
    home: &Home,
    kernel: &Kernel,
    agent: &[u8],
    progress: &dyn Progress,
) -> Result<PathBuf, ImageError> {
    let agent_digest = digest::of_bytes(agent);
    let name = format!(
        "{}.cpio",
        digest::key([FORMAT, kernel.digest(), &agent_digest])
    );
    let path = home.initramfs().join(&name);
    if path.is_file() {
        return Ok(path);
    }
    let workshop = home.workshop("initramfs", progress)?;
    if path.is_file() {
        return Ok(path);
    }
    progress.step("packing the initramfs");
    let mut files = Vec::new();
    for module in kernel.modules() {
        let bytes = fs::read(&module).map_err(ImageError::io("read", &module))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        files.push((name.into_owned(), bytes));
    }
    let archive = archive(agent, &files).map_err(ImageError::io("pack", &path))?;
    workshop.publish_bytes(&name, &archive)
}

/// The same input gives the same bytes: no time, no owner, fixed order.
/// `modules` are file names and contents in the order they load.
fn archive(agent: &[u8], modules: &[(String, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut archive = Archive {
        bytes: Vec::new(),
        entries: 0,
    };
    for directory in DIRECTORIES {
        archive.add(directory, 0o755, ModeFileType::Directory, &[])?;
    }
    archive.add("init", 0o755, ModeFileType::Regular, agent)?;
    let mut order = String::new();
    for (name, bytes) in modules {
        let path = format!("modules/{name}");
        archive.add(&path, 0o644, ModeFileType::Regular, bytes)?;
        order.push('/');
        order.push_str(&path);
        order.push('\n');
    }
    archive.add(
        "modules/order",
        0o644,
        ModeFileType::Regular,
        order.as_bytes(),
    )?;
    newc::trailer(archive.bytes)
}

struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(
        &mut self,
        name: &str,
        mode: u32,
        kind: ModeFileType,
        content: &[u8],
    ) -> std::io::Result<()> {
        use std::io::Write as _;

        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let mut entry = newc::Builder::new(name)
            .ino(self.entries)
            .mode(mode)
            .set_mode_file_type(kind)
            .write(&mut self.bytes, size);
        entry.write_all(content)?;
        entry.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
