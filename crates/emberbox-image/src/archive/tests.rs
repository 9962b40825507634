use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::{ArchiveError, Packer, unsupported};
use crate::erofs::BLOCK;
use crate::tree::{Body, Whiteouts};

/// One entry of an archive that a test makes.
fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

/// Writes a name as it is: the library refuses the bad ones.
fn set_name(header: &mut Header, name: &str) {
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
}

fn set_target(header: &mut Header, target: &str) {
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
}

#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(mut self, name: &str, mut header: Header, content: &[u8]) -> Self {
        set_name(&mut header, name);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        let header = header(EntryType::Regular, content.len() as u64);
        self.add(name, header, content.as_bytes())
    }

    fn directory(self, name: &str, mode: u32) -> Self {
        let mut header = header(EntryType::Directory, 0);
        header.set_mode(mode);
        self.add(name, header, &[])
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = header(kind, 0);
        set_target(&mut header, target);
        self.add(name, header, &[])
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut body = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n").len();
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.push_str(&format!("{length} {key}={value}\n"));
        }
        let header = header(EntryType::XHeader, body.len() as u64);
        self.add("pax", header, body.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn packer(whiteouts: Whiteouts, dir: &Path) -> Packer {
    let file = |name: &str| {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.join(name))
            .unwrap()
    };
    Packer::new(whiteouts, file("image"), file("spool")).unwrap()
}

/// Packs the layers, checks the image with the format's own tools, and unpacks
/// it with them.
fn pack(whiteouts: Whiteouts, layers: &[Vec<u8>]) -> Result<(TempDir, PathBuf), ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    let mut packer = packer(whiteouts, dir.path());
    for layer in layers {
        packer.add_layer(layer.as_slice())?;
    }
    packer.finish()?;
    let tree = dir.path().join("tree");
    let checked = Command::new("fsck.erofs")
        .arg(format!("--extract={}", tree.display()))
        .args(["--preserve-perms", "--preserve-owner"])
        .arg(dir.path().join("image"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    Ok((dir, tree))
}

fn applied(layers: &[Vec<u8>]) -> Result<(TempDir, PathBuf), ArchiveError> {
    pack(Whiteouts::Applied, layers)
}

/// The permission bits in the image itself: the tools lose some of them when
/// they unpack.
fn stored_mode(dir: &TempDir, path: &str) -> u32 {
    /// Of the number of the first metadata block in the image.
    const METADATA_BLOCK: usize = 1024 + 40;
    let image = dir.path().join("image");
    let shown = Command::new("dump.erofs")
        .arg(format!("--path=/{path}"))
        .arg(&image)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let number = shown.split("NID: ").nth(1).expect("a node number");
    let number: usize = number.split_whitespace().next().unwrap().parse().unwrap();
    let bytes = fs::read(image).unwrap();
    let block = u32::from_le_bytes(bytes[METADATA_BLOCK..][..4].try_into().unwrap());
    let inode = &bytes[block as usize * BLOCK as usize + number * 32..];
    u32::from(u16::from_le_bytes([inode[4], inode[5]])) & 0o7777
}

fn why(layers: &[Vec<u8>]) -> String {
    applied(layers).unwrap_err().to_string()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn everything_a_file_has_is_kept() {
    let mut setuid = header(EntryType::Regular, 3);
    setuid.set_mode(0o4755);
    setuid.set_uid(1000);
    setuid.set_gid(1001);
    let mut device = header(EntryType::Char, 0);
    device.set_device_major(4).unwrap();
    device.set_device_minor(300).unwrap();
    let layer = Tar::default()
        .directory("bin/", 0o755)
        .directory("tmp", 0o1777)
        .add("bin/su", setuid, b"suu")
        .symlink("lib", "/usr/lib")
        .hard_link("bin/sudo", "bin/su")
        .add("dev/thing", device, &[])
        .add("queue", header(EntryType::Fifo, 0), &[])
        .end();
    let (dir, tree) = applied(&[layer]).unwrap();
    let su = tree.join("bin/su").metadata().unwrap();
    assert_eq!(stored_mode(&dir, "bin/su"), 0o4755);
    assert_eq!(stored_mode(&dir, "tmp"), 0o1777);
    assert_eq!((su.uid(), su.gid(), su.size()), (1000, 1001, 3));
    assert_eq!(fs::read(tree.join("bin/sudo")).unwrap(), b"suu");
    assert_eq!(
        fs::read_link(tree.join("lib")).unwrap(),
        Path::new("/usr/lib")
    );
    let thing = tree.join("dev/thing").metadata().unwrap();
    assert!(thing.file_type().is_char_device());
    assert_eq!(thing.rdev(), rustix::fs::makedev(4, 300));
    assert!(tree.join("queue").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn attributes_survive_in_the_image() {
    let layer = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.note", "kept"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.trusted.overlay.origin", "of another disk"),
            ("mtime", "1700000001.5"),
        ])
        .directory("d", 0o750)
        .end();
    let dir = tempfile::tempdir().unwrap();
    let mut packer = packer(Whiteouts::Kept, dir.path());
    packer.add_layer(layer.as_slice()).unwrap();
    let id = packer.tree().resolve("/d").unwrap();
    let attributes = packer.tree().node(id).attributes.clone();
    packer.finish().unwrap();
    assert_eq!(
        attributes.xattrs,
        [
            (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
            (b"user.note".to_vec(), b"kept".to_vec()),
        ]
    );
    assert_eq!(
        (attributes.mtime, attributes.mtime_ns),
        (1_700_000_001, 500_000_000)
    );
    let shown = Command::new("dump.erofs")
        .args(["--path=/d"])
        .arg(dir.path().join("image"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("Xattr size: "), "{shown}");
    assert!(!shown.contains("Xattr size: 0"), "{shown}");
}

#[test]
fn a_later_layer_removes_and_hides() {
    let below = Tar::default()
        .file("etc/a", "1")
        .file("etc/b", "1")
        .file("opt/x/old", "1")
        .file("opt/y", "1")
        .file("var/gone/deep/file", "1")
        .end();
    let above = Tar::default()
        .file("etc/.wh.a", "")
        .file("etc/c", "2")
        .file("opt/x/new", "2")
        .file("opt/x/.wh..wh..opq", "")
        .file("var/.wh.gone", "")
        .file("var/gone/again", "2")
        .file(".wh..wh.plnk", "")
        .end();
    let (_dir, tree) = applied(&[below, above]).unwrap();
    assert_eq!(names(&tree.join("etc")), ["b", "c"]);
    assert_eq!(names(&tree.join("opt/x")), ["new"]);
    assert_eq!(names(&tree.join("opt")), ["x", "y"]);
    assert_eq!(names(&tree.join("var/gone")), ["again"]);
    assert_eq!(names(&tree), ["etc", "opt", "var"]);
}

#[test]
fn an_overlay_keeps_its_whiteouts() {
    let mut whiteout = header(EntryType::Char, 0);
    whiteout.set_device_major(0).unwrap();
    whiteout.set_device_minor(0).unwrap();
    let layer = Tar::default()
        .add("etc/gone", whiteout, &[])
        .file("etc/.wh.name", "a file like any other")
        .end();
    let (_dir, tree) = pack(Whiteouts::Kept, &[layer]).unwrap();
    let gone = tree.join("etc/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(tree.join("etc/.wh.name").is_file());
}

#[test]
fn a_hard_link_keeps_what_a_later_layer_replaces() {
    let below = Tar::default().file("a", "first").hard_link("b", "a").end();
    let above = Tar::default().file("a", "second").end();
    let (_dir, tree) = applied(&[below, above]).unwrap();
    assert_eq!(fs::read(tree.join("a")).unwrap(), b"second");
    assert_eq!(fs::read(tree.join("b")).unwrap(), b"first");
    assert_eq!(tree.join("b").metadata().unwrap().nlink(), 1);
}

#[test]
fn a_directory_may_replace_a_link_of_a_lower_layer_only() {
    let below = Tar::default().symlink("bin", "/etc").end();
    let above = Tar::default().file("bin/x", "2").end();
    let (_dir, tree) = applied(&[below, above]).unwrap();
    assert!(tree.join("bin").symlink_metadata().unwrap().is_dir());
    assert!(!tree.join("etc").exists());

    let trick = Tar::default()
        .symlink("out", "/etc")
        .file("out/passwd", "root::0:0")
        .end();
    assert_eq!(
        why(&[trick]),
        "the entry \"out/passwd\" leads through what is no directory"
    );
}

#[test]
fn names_stay_inside() {
    let absolute = Tar::default().file("/etc/passwd", "inside").end();
    let (_dir, tree) = applied(&[absolute]).unwrap();
    assert_eq!(fs::read(tree.join("etc/passwd")).unwrap(), b"inside");

    for name in ["../x", "a/../../x", "..", "/.."] {
        let layer = Tar::default().file(name, "out").end();
        assert!(why(&[layer]).contains("climbs out"), "{name}");
    }
    for target in ["../../etc/shadow", "/etc/shadow", "missing"] {
        let layer = Tar::default().hard_link("shadow", target).end();
        let why = why(&[layer]);
        assert!(
            why.contains("climbs out") || why.contains("what is not there"),
            "{target}: {why}"
        );
    }
    let directory = Tar::default()
        .directory("d", 0o755)
        .hard_link("e", "d")
        .end();
    assert!(why(&[directory]).contains("hard link to a directory"));
    for name in ["a/.wh...", "a/.wh.."] {
        let layer = Tar::default().file(name, "").end();
        assert!(why(&[layer]).contains("cannot be"), "{name}");
    }
}

#[test]
fn of_two_entries_with_one_name_the_later_counts() {
    let layer = Tar::default()
        .file("x", "first")
        .file("x", "second")
        .directory("d", 0o700)
        .file("d/y", "y")
        .directory("./d/", 0o755)
        .file("z/inner", "z")
        .file("z", "a file now")
        .hard_link("x", "x")
        .end();
    let (_dir, tree) = applied(&[layer]).unwrap();
    assert_eq!(fs::read(tree.join("x")).unwrap(), b"second");
    assert_eq!(names(&tree.join("d")), ["y"]);
    assert!(tree.join("z").is_file());
}

#[test]
fn what_costs_too_much_is_refused() {
    let long = "x".repeat(5000);
    let path = Tar::default().pax(&[("path", &long)]).file("x", "").end();
    assert!(why(&[path]).contains("4094 bytes in a path"));
    let name = Tar::default()
        .pax(&[("path", &long[..300])])
        .file("x", "")
        .end();
    assert!(why(&[name]).contains("255 bytes in a file name"));
    let xattrs = Tar::default()
        .pax(&[("SCHILY.xattr.user.x", &long)])
        .file("x", "")
        .end();
    assert!(why(&[xattrs]).contains("3072 bytes in the extended attributes"));
    // As large as a header can say: nothing is read of it.
    let name = header(EntryType::GNULongName, 6 << 30);
    let name = Tar::default().add("x", name, &[]).end();
    assert!(why(&[name]).contains("bytes in an entry's header"));
    let sparse = Tar::default()
        .pax(&[("GNU.sparse.realsize", "99999999999")])
        .file("x", "")
        .end();
    assert!(why(&[sparse]).contains("sparse"));
    let sparse = Tar::default()
        .add("x", header(EntryType::GNUSparse, 0), &[])
        .end();
    assert!(why(&[sparse]).contains("of a kind"));
    let resized = Tar::default()
        .pax(&[("size", "99999999999")])
        .file("x", "")
        .end();
    assert!(why(&[resized]).contains("larger than"));
}

#[test]
fn a_bomb_of_bytes_ends_at_the_limit() {
    // Files that are all hole, one after the other.
    struct Bomb(u64, Vec<u8>);
    impl Read for Bomb {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.is_empty() {
                self.0 += 1;
                let size = super::MAX_BYTES / 2 + 1;
                let mut header = header(EntryType::Regular, size);
                set_name(&mut header, &format!("f{}", self.0));
                header.set_cksum();
                self.1 = header.as_bytes().to_vec();
            }
            let count = self.1.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.1[..count]);
            self.1.drain(..count);
            Ok(count)
        }
    }
    // What a header announces is counted before a byte of it is read.
    let dir = tempfile::tempdir().unwrap();
    let mut packer = packer(Whiteouts::Applied, dir.path());
    packer.bytes = super::MAX_BYTES / 2;
    let error = packer.add_layer(Bomb(0, Vec::new())).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the image has more than {} bytes in files",
            super::MAX_BYTES
        )
    );
}

#[test]
fn a_bomb_of_entries_ends_at_the_limit() {
    let mut entries = Tar::default().file("same", "").0;
    let one = entries.clone();
    let count = crate::tree::MAX_ENTRIES + 1;
    let mut left = count;
    struct Same<'a>(&'a [u8], &'a mut u64, usize);
    impl Read for Same<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if *self.1 == 0 {
                return Ok(0);
            }
            let count = buffer.len().min(self.0.len() - self.2);
            buffer[..count].copy_from_slice(&self.0[self.2..self.2 + count]);
            self.2 += count;
            if self.2 == self.0.len() {
                self.2 = 0;
                *self.1 -= 1;
            }
            Ok(count)
        }
    }
    entries.clear();
    let dir = tempfile::tempdir().unwrap();
    let mut packer = packer(Whiteouts::Applied, dir.path());
    let error = packer.add_layer(Same(&one, &mut left, 0)).unwrap_err();
    assert!(error.to_string().contains("entries"), "{error}");
}

#[test]
fn an_attribute_may_hold_any_bytes() {
    // What a kernel notes of a file may have a newline in it.
    let value = "one\n9 x=y\n\ntwo=\n";
    let records = [
        ("SCHILY.xattr.trusted.overlay.origin", value),
        ("SCHILY.xattr.user.note", value),
    ];
    let layer = Tar::default().pax(&records).file("a", "x").end();
    let dir = tempfile::tempdir().unwrap();
    let mut packer = packer(Whiteouts::Kept, dir.path());
    packer.add_layer(layer.as_slice()).unwrap();
    let id = packer.tree().resolve("/a").unwrap();
    let kept = (b"user.note".to_vec(), value.as_bytes().to_vec());
    assert_eq!(packer.tree().node(id).attributes.xattrs, [kept]);
    for bad in [
        "",
        "x",
        "5 a=b\n",
        "7 a=b\n",
        "6 a=b",
        "6 a-b\n",
        "-6 a=b\n",
        "9999999999999999999999 a=b\n",
    ] {
        let header = header(EntryType::XHeader, bad.len() as u64);
        let layer = Tar::default().add("pax", header, bad.as_bytes());
        let read = applied(&[layer.file("a", "x").end()]);
        assert_eq!(read.is_ok(), bad.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_cut_archive_is_damaged() {
    let whole = Tar::default().file("a", &"x".repeat(2000)).end();
    for length in [100, 513, 1500] {
        let error = applied(&[whole[..length].to_vec()]).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged(_)), "{error:?}");
    }
    let mut wrong = whole;
    wrong[0] ^= 1;
    let error = applied(&[wrong]).unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged(_)), "{error:?}");
}

#[test]
fn directories_of_every_size_are_read_back() {
    for count in [0, 1, 2, 100, 200, 3000] {
        let mut tar = Tar::default().directory("d", 0o755);
        // Some names stand before the dots.
        for index in 0..count {
            let first = ["!", "-", ".x", "z"][index % 4];
            tar = tar.file(&format!("d/{first}{index:05}"), "");
        }
        let (_dir, tree) = applied(&[tar.end()]).unwrap();
        assert_eq!(names(&tree.join("d")).len(), count);
    }
}

#[test]
fn images_without_what_sandboxes_need_are_told_apart() {
    let supported = Tar::default()
        .symlink("bin", "usr/bin")
        .symlink("lib64", "usr/lib64")
        .file("usr/bin/dash", "elf")
        .symlink("usr/bin/sh", "dash")
        .symlink("usr/lib64/ld-linux-x86-64.so.2", "../lib/ld.so")
        .file("usr/lib/ld.so", "elf");
    let alpine = Tar::default()
        .file("bin/busybox", "elf")
        .symlink("bin/sh", "/bin/busybox")
        .file("lib/ld-musl-x86_64.so.1", "elf");
    let distroless = Tar::default().file("lib64/ld-linux-x86-64.so.2", "elf");
    let looping = Tar::default().symlink("bin", "bin");
    for (tar, part) in [
        (supported, None),
        (alpine, Some("glibc")),
        (distroless, Some("shell")),
        (looping, Some("shell")),
        (Tar::default(), Some("empty")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut packer = packer(Whiteouts::Applied, dir.path());
        packer.add_layer(tar.end().as_slice()).unwrap();
        let found = unsupported(packer.tree());
        assert_eq!(found.is_some(), part.is_some(), "{found:?}");
        if let Some(part) = part {
            assert!(found.unwrap().contains(part), "{found:?}");
        }
    }
}

#[test]
fn the_last_node_may_end_with_its_block() {
    let node = 64;
    let fills_but_a_node = "a".repeat(BLOCK as usize - 2 * node);
    let has_its_own_block = "b".repeat(BLOCK as usize);
    let layer = Tar::default()
        .file("a", &fills_but_a_node)
        .file("b", &has_its_own_block)
        .end();
    let (_dir, tree) = applied(&[layer]).unwrap();
    assert_eq!(
        fs::read_to_string(tree.join("b")).unwrap(),
        has_its_own_block
    );
}

/// A file as the property test makes it.
#[derive(Debug, Clone)]
struct Made {
    path: Vec<u8>,
    size: usize,
    mode: u32,
}

fn made() -> impl Strategy<Value = Made> {
    let part = prop::sample::select(vec!["a", "b", "c", "d.d", "-e", "é"]);
    let size = prop_oneof![
        0..64_usize,
        Just(BLOCK as usize - 64),
        Just(BLOCK as usize - 63),
        Just(BLOCK as usize),
        0..20_000_usize
    ];
    (prop::collection::vec(part, 1..4), size, 0..0o10000_u32).prop_map(|(parts, size, mode)| Made {
        path: parts.join("/").into_bytes(),
        size,
        mode,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What goes in comes out, whatever the order: of one path the last counts,
    /// and a file where a directory is needed is refused.
    #[test]
    fn an_image_holds_what_its_archive_says(files in prop::collection::vec(made(), 1..30)) {
        let mut model = std::collections::BTreeMap::new();
        let mut builder = Builder::new(Vec::new());
        let mut refused = false;
        for (index, file) in files.iter().enumerate() {
            let path = String::from_utf8(file.path.clone()).unwrap();
            let below = format!("{path}/");
            let through = model.keys().any(|known: &String| path.starts_with(&format!("{known}/")));
            if through {
                refused = true;
            } else {
                model.retain(|known, _| !known.starts_with(&below));
            }
            let content = vec![index as u8; file.size];
            let mut header = header(EntryType::Regular, file.size as u64);
            header.set_mode(file.mode);
            builder.append_data(&mut header, &path, content.as_slice()).unwrap();
            if refused {
                break;
            }
            model.insert(path, (content, file.mode));
        }
        let packed = applied(&[builder.into_inner().unwrap()]);
        if refused {
            let refusal = matches!(packed, Err(ArchiveError::Refused { .. }));
            prop_assert!(refusal);
            return Ok(());
        }
        let (dir, tree) = packed.unwrap();
        for (path, (content, mode)) in &model {
            let found = tree.join(path);
            prop_assert_eq!(&fs::read(&found).unwrap(), content);
            prop_assert_eq!(found.metadata().unwrap().permissions().mode() & 0o777, *mode & 0o777);
            prop_assert_eq!(stored_mode(&dir, path), *mode);
        }
    }

    /// No bytes at all make it panic or take more than they are worth.
    #[test]
    fn nonsense_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let dir = tempfile::tempdir().unwrap();
        let mut packer = packer(Whiteouts::Applied, dir.path());
        let _ = packer.add_layer(bytes.as_slice());
    }
}

#[test]
fn replaced_content_gives_its_blocks_back() {
    let big = "x".repeat(1 << 20);
    let layers = [
        Tar::default().file("a", &big).end(),
        Tar::default().file("a", "small").end(),
    ];
    let (dir, tree) = applied(&layers).unwrap();
    assert_eq!(fs::read(tree.join("a")).unwrap(), b"small");
    let image = dir.path().join("image").metadata().unwrap();
    assert!(image.blocks() * 512 < 1 << 19, "{}", image.blocks());
}

#[test]
fn our_own_files_are_there_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut packer = packer(Whiteouts::Kept, dir.path());
    packer.add_file("etc/emberbox/env", b"A=1\n").unwrap();
    let id = packer.tree().resolve("/etc/emberbox/env").unwrap();
    assert!(matches!(packer.tree().node(id).body, Body::File(content) if content.size == 4));
    packer.finish().unwrap().flush().unwrap();
}
