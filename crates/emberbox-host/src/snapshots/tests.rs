use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::*;

const SHAPE: Shape = Shape::DEFAULT;

struct Store {
    dir: TempDir,
    snapshots: Snapshots,
}

impl Store {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let snapshots = Snapshots::open(dir.path(), "engine 1".to_owned()).unwrap();
        fs::write(dir.path().join("image"), "").unwrap();
        Self { dir, snapshots }
    }

    fn reopened(&self, engine: &str) -> Snapshots {
        Snapshots::open(self.dir.path(), engine.to_owned()).unwrap()
    }

    fn subject(&self, vm: &VmId, after: AfterSnapshot) -> Subject {
        let image = self.dir.path().join("image");
        Subject {
            vm: vm.clone(),
            sandbox: SandboxId::generate(),
            shape: SHAPE,
            images: BootImages {
                kernel: image.clone(),
                initramfs: image.clone(),
                layers: vec![image],
            },
            after,
        }
    }

    /// A complete snapshot with something in every file.
    fn take(&self, vm: &VmId, after: AfterSnapshot) -> SnapshotId {
        let id = SnapshotId::generate();
        let draft = self.snapshots.draft(&id).unwrap();
        for file in [draft.scratch()]
            .iter()
            .map(PathBuf::as_path)
            .chain(draft.files().each())
        {
            fs::write(file, vec![7; 5000]).unwrap();
        }
        self.snapshots
            .complete(&draft, self.subject(vm, after))
            .unwrap();
        id
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("snapshots")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    fn path(&self, id: &SnapshotId, file: &str) -> PathBuf {
        self.dir
            .path()
            .join("snapshots")
            .join(id.as_str())
            .join(file)
    }
}

#[test]
fn a_complete_snapshot_is_found_and_intact() {
    let store = Store::new();
    let vm = VmId::generate();
    let id = store.take(&vm, AfterSnapshot::GoOn);
    for snapshots in [&store.snapshots, &store.reopened("engine 1")] {
        let found = snapshots.find(&id, SHAPE).unwrap();
        assert_eq!(found.manifest.vm, vm);
        snapshots.verify(&found).unwrap();
        assert_eq!(snapshots.list().unwrap(), std::slice::from_ref(&id));
    }
}

#[test]
fn what_is_not_complete_is_gone_after_a_restart() {
    let store = Store::new();
    let (kept, half) = (SnapshotId::generate(), SnapshotId::generate());
    let draft = store.snapshots.draft(&kept).unwrap();
    fs::write(draft.scratch(), "half").unwrap();
    drop(draft);
    assert!(store.names().is_empty(), "a dropped draft is left");
    let draft = store.snapshots.draft(&half).unwrap();
    fs::write(draft.scratch(), "half").unwrap();
    std::mem::forget(draft);
    assert!(store.snapshots.list().unwrap().is_empty());
    let deleted = store
        .dir
        .path()
        .join("snapshots")
        .join(format!("{kept}.deleted"));
    fs::create_dir(deleted).unwrap();
    store.reopened("engine 1");
    assert!(store.names().is_empty(), "{:?}", store.names());
}

#[test]
fn a_snapshot_that_lacks_a_file_is_not_completed() {
    let store = Store::new();
    let draft = store.snapshots.draft(&SnapshotId::generate()).unwrap();
    let subject = store.subject(&VmId::generate(), AfterSnapshot::GoOn);
    assert!(store.snapshots.complete(&draft, subject).is_err());
    drop(draft);
    assert!(store.names().is_empty());
}

#[test]
fn every_changed_byte_is_noticed() {
    for file in ["memory", "state", "base", "scratch.ext4"] {
        let store = Store::new();
        let id = store.take(&VmId::generate(), AfterSnapshot::GoOn);
        let found = store.snapshots.find(&id, SHAPE).unwrap();
        let changed = File::options().write(true).open(store.path(&id, file));
        changed.unwrap().write_all_at(b"x", 4999).unwrap();
        let verified = store.snapshots.verify(&found);
        assert!(
            matches!(verified, Err(HostError::DamagedSnapshot(_))),
            "{file}: {verified:?}"
        );
        fs::remove_file(store.path(&id, file)).unwrap();
        let verified = store.snapshots.verify(&found);
        assert!(
            matches!(verified, Err(HostError::DamagedSnapshot(_))),
            "no {file}: {verified:?}"
        );
    }
}

#[test]
fn a_changed_manifest_is_noticed() {
    let store = Store::new();
    let id = store.take(&VmId::generate(), AfterSnapshot::GoOn);
    let path = store.path(&id, MANIFEST);
    let good = fs::read_to_string(&path).unwrap();
    for bad in [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("go_on", "end"),
        good.replace("5000", "5001"),
    ] {
        fs::write(&path, &bad).unwrap();
        let found = store.snapshots.find(&id, SHAPE);
        let refused = matches!(found, Err(HostError::DamagedSnapshot(_)));
        assert!(refused, "{found:?}");
    }
    fs::remove_file(&path).unwrap();
    let found = store.snapshots.find(&id, SHAPE);
    assert!(matches!(found, Err(HostError::DamagedSnapshot(_))));
}

#[test]
fn what_does_not_fit_says_so() {
    let store = Store::new();
    let id = store.take(&VmId::generate(), AfterSnapshot::GoOn);
    let unknown = store.snapshots.find(&SnapshotId::generate(), SHAPE);
    assert!(matches!(unknown, Err(HostError::UnknownSnapshot(_))));
    let engine = store.reopened("engine 2").find(&id, SHAPE);
    assert!(matches!(engine, Err(HostError::IncompatibleSnapshot(_))));
    let larger = Shape { vcpus: 2, ..SHAPE };
    let shape = store.snapshots.find(&id, larger);
    assert!(matches!(shape, Err(HostError::IncompatibleSnapshot(_))));
    let path = store.path(&id, MANIFEST);
    let manifest = fs::read_to_string(&path).unwrap();
    fs::write(&path, manifest.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let version = store.snapshots.find(&id, SHAPE);
    assert!(matches!(version, Err(HostError::IncompatibleSnapshot(_))));
    fs::write(&path, manifest).unwrap();
    fs::remove_file(store.dir.path().join("image")).unwrap();
    let image = store.snapshots.find(&id, SHAPE);
    assert!(matches!(image, Err(HostError::IncompatibleSnapshot(_))));
}

#[test]
fn a_life_that_ended_with_its_snapshot_is_known() {
    let store = Store::new();
    let (ended, goes_on) = (VmId::generate(), VmId::generate());
    let last = store.take(&ended, AfterSnapshot::End);
    store.take(&goes_on, AfterSnapshot::GoOn);
    let expected = HashSet::from([ended]);
    assert_eq!(store.snapshots.ended().unwrap(), expected);
    store.snapshots.delete(&last).unwrap();
    store.snapshots.delete(&last).unwrap();
    assert!(store.snapshots.ended().unwrap().is_empty());
    assert_eq!(store.snapshots.list().unwrap().len(), 1);
}

#[test]
fn an_id_is_used_once() {
    let store = Store::new();
    let id = store.take(&VmId::generate(), AfterSnapshot::GoOn);
    assert!(store.snapshots.draft(&id).is_err());
}
