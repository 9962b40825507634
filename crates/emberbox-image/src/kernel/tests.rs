use std::sync::Mutex;

use super::*;
use crate::initramfs;
use crate::module::tests::fake_tree;

#[derive(Default)]
struct Steps(Mutex<Vec<String>>);

impl Progress for Steps {
    fn step(&self, name: &str) {
        self.0.lock().unwrap().push(name.to_owned());
    }
}

fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image
}

#[test]
fn an_operators_kernel_is_kept_with_the_modules_a_guest_loads() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let tree = dir.path().join("modules");
    fake_tree(&tree);
    let image = dir.path().join("vmlinuz");
    fs::write(&image, bzimage()).unwrap();
    let choice = KernelChoice::Own {
        image: image.clone(),
        modules: Some(tree),
    };
    let make = |progress: &Steps| ensure(&home, &choice, Freshness::Cached, progress).unwrap();

    let kernel = make(&Steps::default());
    assert_eq!(fs::read(kernel.bzimage()).unwrap(), bzimage());
    assert!(kernel.modules().all(|module| module.is_file()));

    let steps = Steps::default();
    let first = initramfs::ensure(&home, &kernel, b"agent", &steps).unwrap();
    assert_eq!(make(&steps), kernel);
    let again = initramfs::ensure(&home, &kernel, b"agent", &steps).unwrap();
    assert_eq!(first, again);
    assert_eq!(*steps.0.lock().unwrap(), ["packing the initramfs"]);

    let other = initramfs::ensure(&home, &kernel, b"another agent", &steps).unwrap();
    assert_ne!(first, other);

    let mut changed = bzimage();
    changed.push(1);
    fs::write(&image, changed).unwrap();
    assert_ne!(make(&steps).digest(), kernel.digest());
}

#[test]
fn a_file_that_is_no_kernel_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let image = dir.path().join("vmlinuz");
    fs::write(&image, "#!/bin/sh\n").unwrap();
    let choice = KernelChoice::Own {
        image,
        modules: None,
    };
    let error = ensure(&home, &choice, Freshness::Cached, &Steps::default()).unwrap_err();
    assert!(error.to_string().ends_with("is not a bzImage"), "{error}");
    assert_eq!(fs::read_dir(home.kernels()).unwrap().count(), 0);
}
