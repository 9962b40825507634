use std::io::Write as _;

use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};

use super::*;

/// An ELF file with nothing but a `.modinfo`.
pub(crate) fn elf(info: &[&str]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let section = object.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
    let mut data = Vec::new();
    for entry in info {
        data.extend_from_slice(entry.as_bytes());
        data.push(0);
    }
    object.append_section_data(section, &data, 1);
    object.write().unwrap()
}

/// A modules directory with all that is required, some of it built in.
pub(crate) fn fake_tree(dir: &Path) {
    let drivers = dir.join("kernel/drivers");
    fs::create_dir_all(&drivers).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(drivers.join(name), bytes).unwrap();
    put("virtio.ko", &elf(&["license=GPL"]));
    put("virtio_pci.ko", &elf(&["depends=virtio"]));
    put("virtio_mmio.ko", &elf(&["depends=virtio"]));
    put("virtio_blk.ko", &elf(&["depends=virtio"]));
    put("virtio-rng.ko", &elf(&["depends=virtio"]));
    put("overlay.ko", &elf(&[]));
    put("crc32c_generic.ko", &elf(&[]));
    put("mbcache.ko", &elf(&[]));
    put(
        "ext4.ko",
        &elf(&["depends=mbcache", "softdep=pre: crc32c post: nothing"]),
    );
    put("unrelated.ko", b"not even a module");

    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&elf(&["depends=virtio,net-failover"]))
        .unwrap();
    put("virtio_net.ko.xz", &xz.finish().unwrap());
    put(
        "net_failover.ko.zst",
        &zstd::encode_all(elf(&[]).as_slice(), 1).unwrap(),
    );
    fs::write(dir.join("modules.builtin"), "kernel/fs/erofs/erofs.ko\n").unwrap();
}

#[test]
fn every_module_comes_after_those_it_depends_on() {
    let dir = tempfile::tempdir().unwrap();
    fake_tree(dir.path());
    let order = Modules::open(dir.path()).unwrap().load_order().unwrap();
    let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "crc32c_generic",
            "virtio",
            "virtio_rng",
            "virtio_pci",
            "virtio_mmio",
            "virtio_blk",
            "net_failover",
            "virtio_net",
            "mbcache",
            "ext4",
            "overlay",
        ]
    );
    assert!(
        order
            .iter()
            .all(|module| module.bytes.starts_with(b"\x7fELF")),
        "compressed modules are unpacked"
    );
}

#[test]
fn a_kernel_that_cannot_boot_a_guest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fake_tree(dir.path());
    fs::remove_file(dir.path().join("kernel/drivers/virtio_blk.ko")).unwrap();
    fs::remove_file(dir.path().join("modules.builtin")).unwrap();
    let error = Modules::open(dir.path()).unwrap().load_order().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the guest kernel cannot be used: it has no virtio_blk, no erofs"
    );
}

#[test]
fn a_damaged_module_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fake_tree(dir.path());
    fs::write(dir.path().join("kernel/drivers/overlay.ko"), "garbage").unwrap();
    let error = Modules::open(dir.path()).unwrap().load_order().unwrap_err();
    assert!(error.to_string().contains("overlay.ko"), "{error}");
}
