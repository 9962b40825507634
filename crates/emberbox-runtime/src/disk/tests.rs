use std::os::unix::fs::FileExt;

use super::*;

fn sparse_file(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"middle", 32 << 20).unwrap();
    file.write_all_at(b"end", (64 << 20) - 3).unwrap();
}

#[test]
fn a_clone_has_the_bytes_and_the_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("a"), dir.path().join("b"));
    sparse_file(&source);
    clone(&source, &target).unwrap();
    assert_eq!(
        std::fs::read(&source).unwrap(),
        std::fs::read(&target).unwrap()
    );
    assert!(allocated_bytes(&target).unwrap() <= 1 << 20);
}

#[test]
fn the_copy_by_hand_is_the_same_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("a"), dir.path().join("b"));
    sparse_file(&source);
    let (from, to) = (File::open(&source).unwrap(), File::create(&target).unwrap());
    copy_by_hand(&from, &to, 0, 64 << 20).unwrap();
    assert_eq!(
        std::fs::read(&source).unwrap(),
        std::fs::read(&target).unwrap()
    );
}

#[test]
fn an_existing_target_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("a"), dir.path().join("b"));
    sparse_file(&source);
    std::fs::write(&target, "mine").unwrap();
    assert!(clone(&source, &target).is_err());
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
}

#[test]
fn zeros_become_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("a"), dir.path().join("b"));
    let mut bytes = vec![0; (8 << 20) + 100];
    bytes[0] = 1;
    bytes[4096..12288].fill(2);
    bytes[5 << 20] = 3;
    *bytes.last_mut().unwrap() = 4;
    std::fs::write(&source, &bytes).unwrap();
    let (from, to) = (File::open(&source).unwrap(), File::create(&target).unwrap());
    copy_without_zeros(&from, &to).unwrap();
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert!(allocated_bytes(&target).unwrap() <= 64 << 10);
}
