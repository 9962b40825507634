use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};

use emberbox_guest::Export;

use crate::testing::Guest;

#[tokio::test]
async fn an_archive_holds_what_the_guest_has_but_not_who_it_is() {
    let guest = Guest::claimed().await;
    let root = guest.root.path();
    let deep = format!("{}/{}", "d".repeat(100), "e".repeat(100));
    fs::create_dir_all(root.join(&deep)).unwrap();
    let big = vec![7; 300_000];
    fs::write(root.join(&deep).join("big"), &big).unwrap();
    fs::hard_link(root.join(&deep).join("big"), root.join("zz")).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    fs::set_permissions(root.join(&deep), fs::Permissions::from_mode(0o1777)).unwrap();
    // User attributes need a file system that has them.
    let note = rustix::fs::lsetxattr(
        root.join("zz"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    );

    let mut reader = guest.client.export(Export::Changes).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(data) = reader.next().await.unwrap() {
        bytes.extend_from_slice(&data);
    }
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let target = entry.link_name().unwrap().map(|target| target.into_owned());
        let extensions = entry.pax_extensions().unwrap();
        let xattr = extensions.into_iter().flatten().any(|record| {
            let record = record.unwrap();
            record.key() == Ok("SCHILY.xattr.user.note") && record.value_bytes() == b"kept"
        });
        let mode = entry.header().mode().unwrap() & 0o7777;
        found.insert(path, (content, target, mode, xattr));
    }
    // Directories come after the files beside them.
    let (content, _, _, xattr) = &found["zz"];
    assert!(*content == big);
    assert_eq!(*xattr, note.is_ok());
    assert_eq!(found[&deep].2, 0o1777);
    let target = found[&format!("{deep}/big")].1.as_ref().unwrap();
    assert_eq!(target.to_str().unwrap(), "zz");
    let target = found["link"].1.as_ref().unwrap();
    assert_eq!(target.to_str().unwrap(), "/etc/passwd");
    assert!(root.join("etc/machine-id").exists());
    assert!(!found.contains_key("etc/machine-id"), "{:?}", found.keys());
    assert!(found.contains_key("etc/emberbox/env"));
}
