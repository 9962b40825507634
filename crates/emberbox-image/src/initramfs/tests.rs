use std::io::Read as _;

use super::*;

fn modules() -> Vec<(String, Vec<u8>)> {
    ["virtio.ko", "erofs.ko"]
        .map(|name| (name.to_owned(), name.as_bytes().to_vec()))
        .to_vec()
}

#[test]
fn the_archive_holds_the_agent_and_the_modules_in_order() {
    let archive = archive(b"agent", &modules()).unwrap();
    let mut rest = archive.as_slice();
    let mut found = Vec::new();
    loop {
        let mut entry = newc::Reader::new(rest).unwrap();
        if entry.entry().is_trailer() {
            break;
        }
        let head = entry.entry();
        let (name, mode) = (head.name().to_owned(), head.mode());
        assert_eq!((head.mtime(), head.uid(), head.gid()), (0, 0, 0));
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        rest = entry.finish().unwrap();
        found.push((name, mode, content));
    }
    let files: Vec<_> = found
        .iter()
        .filter(|(_, mode, _)| mode & 0o170_000 == 0o100_000)
        .map(|(name, mode, content)| (name.as_str(), mode & 0o7777, content.as_str()))
        .collect();
    assert_eq!(
        files,
        [
            ("init", 0o755, "agent"),
            ("modules/virtio.ko", 0o644, "virtio.ko"),
            ("modules/erofs.ko", 0o644, "erofs.ko"),
            (
                "modules/order",
                0o644,
                "/modules/virtio.ko\n/modules/erofs.ko\n"
            ),
        ]
    );
    for directory in ["dev", "proc", "sys", "newroot", "modules"] {
        assert!(
            found
                .iter()
                .any(|(name, mode, _)| name == directory && *mode == 0o040_755),
            "{directory}"
        );
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(
        archive(b"agent", &modules()).unwrap(),
        archive(b"agent", &modules()).unwrap()
    );
}
