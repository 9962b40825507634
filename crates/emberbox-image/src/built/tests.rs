use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::build_dir::sweep_builds;
use crate::layer::layer_of_files;
use crate::template::images;

struct Rig {
    _dir: TempDir,
    home: Home,
}

/// A home with a template to boot like.
fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path()).unwrap();
    for file in ["kernels/bzImage", "initramfs/a.cpio", "rootfs/base.erofs"] {
        fs::write(home.root().join(file), file).unwrap();
    }
    let base = r#"{"name":"base","kernel":"kernels/bzImage","initramfs":"initramfs/a.cpio",
        "layers":["rootfs/base.erofs"],"digest":"d"}"#;
    fs::write(home.rootfs().join("base.json"), base).unwrap();
    Rig { _dir: dir, home }
}

impl Rig {
    fn dir(&self, name: &str) -> BuildDir {
        BuildDir::create(&self.home, name).unwrap()
    }

    /// The base and one layer of its own, as a build makes them.
    fn stack(&self, dir: &BuildDir, content: &str) -> Stack {
        let mut stack = Stack::of_image(&self.home, dir, "base").unwrap().unwrap();
        let layer = layer_of_files(&self.home, dir, &[("etc/x", content.as_bytes())]);
        stack.layers.push(layer.unwrap());
        stack
    }

    fn publish(&self, stack: &Stack) -> PublishedImage {
        publish_image(&self.home, stack, None, "base").unwrap()
    }

    fn remove(&self, image: &PublishedImage, in_use: &[PathBuf]) {
        remove_image(&self.home, &image.name, in_use).unwrap();
    }

    fn has(&self, stack: &Stack) -> bool {
        stack.is_complete(&self.home)
    }
}

#[test]
fn an_image_boots_what_its_template_boots() {
    let rig = rig();
    let stack = rig.stack(&rig.dir("b1"), "one");
    let image = rig.publish(&stack);
    let found = images(&rig.home, &image.name).unwrap().unwrap();
    assert_eq!(found.kernel, rig.home.root().join("kernels/bzImage"));
    assert_eq!(found.layers, stack.paths(&rig.home));
    assert!(!image.known);
    // The same again is the same image.
    assert_eq!(rig.publish(&stack).name, image.name);
    assert!(rig.publish(&stack).known);
    // A new agent makes it another guest, for which no old seed is right.
    let base = fs::read_to_string(rig.home.rootfs().join("base.json")).unwrap();
    fs::write(rig.home.initramfs().join("b.cpio"), "new").unwrap();
    let base = base.replace("a.cpio", "b.cpio");
    fs::write(rig.home.rootfs().join("base.json"), base).unwrap();
    let renewed = images(&rig.home, &image.name).unwrap().unwrap();
    assert_eq!(renewed.initramfs, rig.home.initramfs().join("b.cpio"));
    assert_ne!(renewed.digest, found.digest);
    let app = TemplateApp {
        start: "serve".to_owned(),
        ready: None,
    };
    let other = publish_image(&rig.home, &stack, Some(app), "base").unwrap();
    assert_ne!(other.name, image.name);
}

#[test]
fn a_removed_image_takes_only_its_own_layers() {
    let rig = rig();
    let dir = rig.dir("b1");
    let shared = rig.stack(&dir, "shared");
    let mut more = shared.clone();
    more.layers
        .push(layer_of_files(&rig.home, &dir, &[("etc/y", b"more")]).unwrap());
    let (key, more_key) = (step_key(&shared, &["a"]), step_key(&more, &["b"]));
    remember(&rig.home, &key, &shared).unwrap();
    remember(&rig.home, &more_key, &more).unwrap();
    let (first, second) = (rig.publish(&shared), rig.publish(&more));

    // A build works with them.
    rig.remove(&second, &[]);
    assert!(rig.has(&more));
    drop(dir);
    // A VM does.
    rig.publish(&more);
    rig.remove(&second, &more.paths(&rig.home)[2..]);
    assert!(rig.has(&more));
    rig.remove(&second, &[]);
    assert!(!rig.has(&more) && rig.has(&shared));
    let dir = rig.dir("b2");
    assert_eq!(remembered(&rig.home, &dir, &more_key).unwrap(), None);
    let found = remembered(&rig.home, &dir, &key).unwrap();
    assert_eq!(found.as_ref(), Some(&shared));
    drop(dir);
    rig.remove(&first, &[]);
    assert!(!rig.has(&shared));
    assert!(rig.home.rootfs().join("base.erofs").is_file());
    // Again, and what no build made.
    rig.remove(&first, &[]);
    for name in ["base", "../rootfs/base", "built-", "built-../base"] {
        remove_image(&rig.home, name, &[]).unwrap();
    }
    assert!(images(&rig.home, "base").unwrap().is_some());
    let left = fs::read_dir(rig.home.rootfs()).unwrap().count();
    assert_eq!(left, 2, "base.json and base.erofs");
}

#[test]
fn what_a_killed_build_leaves_is_swept() {
    let rig = rig();
    let dir = rig.dir("b1");
    let kept = rig.stack(&dir, "remembered");
    remember(&rig.home, &step_key(&kept, &[]), &kept).unwrap();
    let lost = rig.stack(&dir, "lost");
    let image = rig.publish(&lost);
    dir.doubt(&image.name).unwrap();
    // It goes on.
    assert_eq!(sweep_builds(&rig.home).unwrap(), [] as [String; 0]);
    assert!(dir.path().is_dir());
    // Killed: its lock is gone, its directory is not.
    fs::remove_file(dir.path().join("lock")).unwrap();
    let doubted = sweep_builds(&rig.home).unwrap();
    assert_eq!(doubted, std::slice::from_ref(&image.name));
    assert!(!dir.path().exists());
    rig.remove(&image, &[]);
    assert!(!rig.has(&lost) && rig.has(&kept));
    std::mem::forget(dir);
}

#[test]
fn a_key_is_of_everything_that_decides() {
    let rig = rig();
    let dir = rig.dir("b1");
    let one = Stack::of_image(&rig.home, &dir, "base").unwrap().unwrap();
    let two = rig.stack(&dir, "two");
    let keys = [
        step_key(&one, &["run", "a b"]),
        step_key(&one, &["run a", "b"]),
        step_key(&one, &["run", "a b", ""]),
        step_key(&two, &["run", "a b"]),
    ];
    let different: BTreeSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    assert_eq!(keys[0], step_key(&one, &["run", "a b"]));
    assert!(Stack::of_image(&rig.home, &dir, "none").unwrap().is_none());
}
