use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn tokens_are_stable_and_differ_by_vm_and_by_host() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (VmId::generate(), VmId::generate());
    let first = HostSecret::open(dir.path()).unwrap();
    let again = HostSecret::open(dir.path()).unwrap();
    assert_eq!(first.guest_token(&one), again.guest_token(&one));
    assert_ne!(first.guest_token(&one), first.guest_token(&two));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(
        HostSecret::open(other.path()).unwrap().guest_token(&one),
        first.guest_token(&one)
    );
}

#[test]
fn only_root_reads_it_and_damage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    HostSecret::open(dir.path()).unwrap();
    let path = dir.path().join("host.secret");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::write(&path, "short").unwrap();
    assert!(HostSecret::open(dir.path()).is_err());
}
