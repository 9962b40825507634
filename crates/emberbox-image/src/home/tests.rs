use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::progress::Silent;

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    (dir, home)
}

#[test]
fn what_a_killed_build_left_is_removed_by_the_next() {
    let (_dir, home) = home();
    let left = home.rootfs().join(".tmp-base");
    fs::create_dir_all(left.join("tree/etc")).unwrap();
    fs::write(home.rootfs().join(".tmp-base.erofs"), "half").unwrap();
    fs::write(home.rootfs().join("whole.erofs"), "whole").unwrap();

    let workshop = home.workshop("rootfs", &Silent).unwrap();
    let names: Vec<_> = fs::read_dir(home.rootfs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["whole.erofs"]);
    drop(workshop);
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    let (_dir, home) = home();
    let workshop = home.workshop("kernels", &Silent).unwrap();
    let dir = workshop.temporary_dir("kernel").unwrap();
    fs::write(dir.join("bzImage"), "half").unwrap();
    drop(workshop);
    assert_eq!(fs::read_dir(home.kernels()).unwrap().count(), 0);
}

#[test]
fn what_is_published_is_whole_and_read_only() {
    let (_dir, home) = home();
    let workshop = home.workshop("initramfs", &Silent).unwrap();
    let path = workshop.publish_bytes("a.cpio", b"content").unwrap();
    drop(workshop);
    assert_eq!(fs::read(&path).unwrap(), b"content");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);
}

#[test]
fn builders_take_turns() {
    const BUILDERS: usize = 8;
    let (_dir, home) = home();
    let inside = AtomicUsize::new(0);
    let built = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..BUILDERS {
            scope.spawn(|| {
                let path = home.rootfs().join("image");
                let workshop = home.workshop("rootfs", &Silent).unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                if !path.exists() {
                    built.fetch_add(1, Ordering::SeqCst);
                    workshop.publish_bytes("image", b"image").unwrap();
                }
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(workshop);
            });
        }
    });
    assert_eq!(built.into_inner(), 1);
}
