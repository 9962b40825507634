use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::error::ImageError;

#[test]
fn a_new_disk_takes_almost_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("scratch.img");
    super::make(&disk, 3072).unwrap();

    let found = fs::metadata(&disk).unwrap();
    assert_eq!(found.len(), 3072 << 20);
    assert!(
        found.blocks() * 512 < 1 << 20,
        "{} bytes",
        found.blocks() * 512
    );
}

#[test]
fn disks_of_one_size_are_equal() {
    let dir = tempfile::tempdir().unwrap();
    let [left, right] = ["left", "right"].map(|name| {
        let disk = dir.path().join(name);
        super::make(&disk, 64).unwrap();
        fs::read(disk).unwrap()
    });
    assert!(left == right);
}

#[test]
fn a_disk_that_is_there_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("scratch.img");
    fs::write(&disk, "somebody's").unwrap();
    assert!(super::make(&disk, 64).is_err());
    assert_eq!(fs::read(&disk).unwrap(), b"somebody's");
}

#[test]
fn a_failure_leaves_no_file_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("scratch.img");
    let error = super::make(&disk, 0).unwrap_err();
    assert!(matches!(&error, ImageError::Child { program, stderr, .. }
        if program == "mkfs.ext4" && !stderr.is_empty()));
    assert!(!disk.exists());
}
