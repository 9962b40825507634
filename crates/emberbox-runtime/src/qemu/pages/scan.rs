//! Asks the kernel for the pages of a process that are its own. Beside reading
//! an entry for each page there could be, what was never touched costs nothing.

#![expect(unsafe_code, reason = "no crate wraps this ioctl")]

use std::fs::File;
use std::io;
use std::ops::Range;

use linux_raw_sys::general::{
    PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, page_region, pm_scan_arg,
};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `PAGEMAP_SCAN`, linux/fs.h: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: Opcode = opcode::read_write::<pm_scan_arg>(b'f', 16);

/// Ranges of one call.
const RANGES: usize = 512;

/// What the kernel has not filled in.
const NONE: page_region = page_region {
    start: 0,
    end: 0,
    categories: 0,
};

/// The addresses in `range` whose pages are in memory or in swap, and not a
/// file's own, in order. `pagemap` is `/proc/PID/pagemap`. Needs Linux 6.7; an
/// older one answers `ENOTTY`.
pub(super) fn own(pagemap: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut own = Vec::new();
    let mut from = range.start;
    while from < range.end {
        let mut found = [NONE; RANGES];
        let mut asked = pm_scan_arg {
            size: size_of::<pm_scan_arg>() as u64,
            flags: 0,
            start: from,
            end: range.end,
            walk_end: from,
            vec: found.as_mut_ptr().expose_provenance() as u64,
            vec_len: RANGES as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_FILE.into(),
            category_mask: PAGE_IS_FILE.into(),
            category_anyof_mask: (PAGE_IS_PRESENT | PAGE_IS_SWAPPED).into(),
            return_mask: 0,
        };
        // SAFETY: the opcode is that of this very struct, and the only memory
        // it points to is `found`, as long as `vec_len` says.
        unsafe { ioctl(pagemap, Updater::<PAGEMAP_SCAN, _>::new(&mut asked)) }?;
        let filled = found.iter().take_while(|region| region.end != 0);
        own.extend(filled.map(|region| region.start..region.end));
        if asked.walk_end <= from {
            return Err(io::Error::other("the kernel's look at memory stands still"));
        }
        from = asked.walk_end;
    }
    Ok(own)
}

#[cfg(test)]
mod tests;
