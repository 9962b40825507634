//! Loading the kernel modules of the initramfs.

use std::fs::{self, File};

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::libc;

use super::{BootError, Doing};

/// One absolute path a line, each after what it depends on.
const ORDER: &str = "/modules/order";

/// Where the modules lie; the memory is given back once they are loaded.
const DIRECTORY: &str = "/modules";

/// Loads every module of the list. One that is there already or finds no
/// device is fine: what is really missing shows as a missing disk or network
/// device a moment later.
pub(super) fn load_all() -> Result<(), BootError> {
    let order = fs::read_to_string(ORDER).doing(format!("read {ORDER}"))?;
    for path in order.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let module = File::open(path).doing(format!("open the module {path}"))?;
        match finit_module(&module, c"", ModuleInitFlags::empty()) {
            Ok(()) => {}
            Err(error) if matches!(error as i32, libc::EEXIST | libc::ENODEV) => {}
            Err(error) => eprintln!("emberbox-agent: module {path} was not loaded: {error}"),
        }
    }
    fs::remove_dir_all(DIRECTORY).doing(format!("remove {DIRECTORY}"))
}
