use std::ptr::null_mut;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::super::PAGE;
use super::super::mapping::entries;
use super::*;

/// More than one call tells of.
const PAGES: u64 = 4 * RANGES as u64;

#[test]
fn it_finds_what_every_entry_says() {
    let length = usize::try_from(PAGES * PAGE).unwrap();
    let file = memfd_create("pages", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, PAGES * PAGE).unwrap();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: nothing else is mapped there, and it is unmapped below.
    let view = unsafe { mmap(null_mut(), length, protection, MapFlags::PRIVATE, &file, 0) };
    let view = view.unwrap().cast::<u8>();
    let start = view.expose_provenance() as u64;
    let write = |page: u64| {
        let offset = usize::try_from(page * PAGE).unwrap();
        // SAFETY: the page is inside of the view, which nobody else uses.
        unsafe { view.add(offset).write_volatile(1) };
    };
    let read = |page: u64| {
        let offset = usize::try_from(page * PAGE).unwrap();
        // SAFETY: as above.
        unsafe { view.add(offset).read_volatile() };
    };
    (0..PAGES).step_by(3).for_each(write);
    (1..PAGES).step_by(3).for_each(read);
    // Beside one that is written.
    write(10);

    let pagemap = File::open("/proc/self/pagemap").unwrap();
    let range = start..start + PAGES * PAGE;
    let by_entry = entries(&pagemap, range.clone()).unwrap();
    assert_eq!(by_entry.len() as u64, PAGES.div_ceil(3));
    match own(&pagemap, range) {
        Ok(scanned) => assert_eq!(scanned, by_entry),
        // What it does then is what it is held against here.
        Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ENOTTY)),
    }
    // SAFETY: nothing refers to it any more.
    unsafe { munmap(view.cast(), length) }.unwrap();
}
