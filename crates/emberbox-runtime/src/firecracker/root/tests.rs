use std::os::unix::fs::symlink;

use emberbox_core::VmId;

use super::*;

/// Any that is not ours.
const UID: u32 = 54_321;

fn made(uid: u32) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let place = VmPlace {
        id: VmId::generate(),
        dir: dir.path().to_owned(),
    };
    let root = Root::of(&place, Path::new("/usr/bin/firecracker"));
    root.make(uid).unwrap();
    let found = Root::find(&place).unwrap().unwrap();
    assert_eq!(found.path, root.path);
    (dir, root)
}

#[test]
fn a_vmm_can_write_what_was_made_for_it_before_the_root_is_its_own() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let (_dir, root) = made(UID);
    let out = Out::open(root.open().unwrap()).unwrap();
    let file = out.create("memory").unwrap();
    let facts = file.metadata().unwrap();
    assert_eq!((facts.uid(), facts.gid()), (UID, UID));
    assert_eq!(facts.mode() & 0o777, 0o600);
    out.remove("memory").unwrap();
    out.remove("memory").unwrap();
}

#[test]
fn what_a_vmm_left_is_only_taken_if_it_is_a_file_of_its_own() {
    let (dir, root) = made(nix::unistd::Uid::effective().as_raw());
    let (secret, inside) = (dir.path().join("secret"), root.path.join("out"));
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, inside.join("link")).unwrap();
    std::fs::hard_link(&secret, inside.join("hard")).unwrap();
    std::fs::create_dir(inside.join("directory")).unwrap();
    std::fs::write(inside.join("state"), "devices").unwrap();
    let out = Out::open(root.open().unwrap()).unwrap();
    for name in ["link", "hard", "directory", "nothing"] {
        assert!(out.file(name).is_err(), "{name} was taken");
    }
    assert_eq!(out.file("state").unwrap().metadata().unwrap().len(), 7);
}
