//! Two hosts' homes and a real S3 protocol server between them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::build_dir::BuildDir;
use crate::built::{self, PublishedImage, Stack};
use crate::home::Home;
use crate::layer::layer_of_files;
use crate::record::to_json;
use crate::template;

mod store;

use store::Store;

/// Long enough for anything here on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Host {
    dir: TempDir,
    home: Home,
}

impl Host {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        Self { dir, home }
    }

    /// One with a template to boot like, of more than one chunk.
    fn with_base() -> Self {
        let host = Self::empty();
        let put = |path: &str, bytes: &[u8]| {
            let path = host.home.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("kernels/linux-1/bzImage", b"kernel");
        put("kernels/linux-1/erofs.ko", b"module");
        // One content in two files.
        put("kernels/linux-1/overlay.ko", b"module");
        put("kernels/linux-1/kernel.json", b"{}");
        put("initramfs/a.cpio", b"agent");
        put("rootfs/base.erofs", &noise(1, 3 * CHUNK_BYTES as usize + 5));
        put(
            "rootfs/base.json",
            br#"{"name":"base","kernel":"kernels/linux-1/bzImage","initramfs":"initramfs/a.cpio",
                "layers":["rootfs/base.erofs"],"digest":"d"}"#,
        );
        // As it is written by us.
        let base = template::manifest(&host.home, "base").unwrap();
        put("rootfs/base.json", &to_json(&base.unwrap()));
        host
    }

    /// An image over the base, with a layer of its own.
    fn build(&self, content: &[u8]) -> PublishedImage {
        let dir = BuildDir::create(&self.home, "build").unwrap();
        let mut stack = Stack::of_image(&self.home, &dir, "base").unwrap().unwrap();
        let layer = layer_of_files(&self.home, &dir, &[("etc/x", content)]);
        stack.layers.push(layer.unwrap());
        built::publish_image(&self.home, &stack, None, "base").unwrap()
    }

    fn artifacts(&self, source: Option<ArtifactSource>) -> Artifacts {
        Artifacts::open(self.home.clone(), source, None).unwrap()
    }

    fn has(&self, image: &str) -> bool {
        template::images(&self.home, image).unwrap().is_some()
    }

    /// Every file below, with its content, but for locks and what was read.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.dir.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.dir.path()).unwrap();
                let name = name.to_string_lossy().into_owned();
                if path.is_dir() {
                    directories.push(path);
                } else if !name.starts_with("locks") && path != self.home.verified() {
                    files.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        files
    }
}

/// Bytes that do not compress and are the same every time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block: [u8; 32] = Sha256::digest(seed.to_le_bytes()).into();
    while bytes.len() < length {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block).into();
    }
    bytes.truncate(length);
    bytes
}

fn flip_a_byte(path: &Path, offset: u64) {
    // Also files that nobody may write: root is asked for nothing here.
    let mut permissions = fs::metadata(path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of the test")]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

/// A home with a built image, and the source it was published to.
async fn published() -> (Store, Host, PublishedImage) {
    let store = Store::start().await;
    let host = Host::with_base();
    let image = host.build(b"content");
    let artifacts = host.artifacts(Some(store.source()));
    artifacts.publish(&image.name).await.unwrap();
    (store, host, image)
}

#[test]
fn a_sparse_file_is_described_without_its_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory");
    let mut file = File::create(&path).unwrap();
    let data = noise(7, 10);
    file.set_len(5 * CHUNK_BYTES + 3).unwrap();
    file.write_all_at(&data, 2 * CHUNK_BYTES).unwrap();
    file.write_all_at(&data, 5 * CHUNK_BYTES - 7).unwrap();
    // Written zeros are holes as well.
    file.write_all(&vec![0; CHUNK_BYTES as usize]).unwrap();
    let described = file::describe(&path, "memory".to_owned()).unwrap();
    let whole = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
    assert_eq!(described.sha256, whole);
    let stored: Vec<_> = described.chunks.iter().map(Option::is_some).collect();
    assert_eq!(stored, [false, false, true, false, true, true]);
    assert!(described.is_sound());
    assert!(file::is_as_described(&path, &described).unwrap());
    for offset in [0, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 5 * CHUNK_BYTES + 2] {
        flip_a_byte(&path, offset);
        assert!(
            !file::is_as_described(&path, &described).unwrap(),
            "{offset}"
        );
        flip_a_byte(&path, offset);
    }
    file.set_len(5 * CHUNK_BYTES + 4).unwrap();
    assert!(!file::is_as_described(&path, &described).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_one_host_is_fetched_by_another() {
    let (store, a, image) = published().await;
    let b = Host::empty();
    let artifacts = b.artifacts(Some(store.source()));
    let held = artifacts.ensure(&image.name).await.unwrap();
    assert!(held.is_some());
    let (there, here) = (a.files(), b.files());
    for (name, content) in &there {
        assert_eq!(here.get(name), Some(content), "{name}");
    }
    assert_eq!(here.len(), there.len(), "{:?}", here.keys());
    let (there, here) = (
        template::images(&a.home, &image.name).unwrap().unwrap(),
        template::images(&b.home, &image.name).unwrap().unwrap(),
    );
    // Equal digests boot the same guest.
    assert_eq!(there.digest, here.digest);
    // It is here now: nobody is asked again, also not by the next process.
    let asked = store.count("GET", "");
    artifacts.ensure(&image.name).await.unwrap().unwrap();
    let next = b.artifacts(Some(store.source()));
    next.ensure(&image.name).await.unwrap().unwrap();
    assert_eq!(store.count("GET", ""), asked);
    for unknown in ["built-0123456789abcdef", "../base", ""] {
        assert!(
            artifacts.ensure(unknown).await.unwrap().is_none(),
            "{unknown}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_a_source_too() {
    let dir = tempfile::tempdir().unwrap();
    let source = || ArtifactSource::directory(&dir.path().join("images")).unwrap();
    let (a, b) = (Host::with_base(), Host::empty());
    let image = a.build(b"content");
    a.artifacts(Some(source()))
        .publish(&image.name)
        .await
        .unwrap();
    let artifacts = b.artifacts(Some(source()));
    assert!(artifacts.ensure(&image.name).await.unwrap().is_some());
    let (there, here) = (a.files(), b.files());
    assert!(there.keys().eq(here.keys()));
    source()
        .withdraw(&format!("images/{}", image.name))
        .await
        .unwrap();
    assert!(b.has(&image.name), "what is here stays");
    let empty = Host::empty();
    let c = empty.artifacts(Some(source()));
    assert!(c.ensure(&image.name).await.unwrap().is_none());
    assert!(
        c.ensure("base").await.unwrap().is_some(),
        "its chunks are wanted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_has_is_not_sent_again() {
    let (store, a, image) = published().await;
    let artifacts = a.artifacts(Some(store.source()));
    let puts = store.count("PUT", "/chunks/");
    assert_eq!(puts, store.chunks().len());
    let again = artifacts.publish(&image.name).await.unwrap();
    assert_eq!((again.new_chunks, again.sent_bytes), (0, 0));
    // The base, the kernel's three files, the agent, twice the base's layer:
    // of the new image only its own layer is new.
    let second = a.build(b"other content");
    let sent = artifacts.publish(&second.name).await.unwrap();
    assert_eq!(sent.new_chunks, 1, "{sent:?}");
    assert_eq!(store.count("PUT", "/chunks/"), puts + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_that_broke_off_goes_on_where_it_did() {
    let store = Store::start().await;
    let a = Host::with_base();
    let image = a.build(b"content");
    let artifacts = a.artifacts(Some(store.source()));
    store.refuse_chunks_after(Some(3));
    let error = artifacts.publish(&image.name).await.unwrap_err();
    assert!(error.to_string().contains("refused access"), "{error}");
    let sent = store.chunks().len();
    assert!(sent >= 3, "{sent}");
    // Nothing is described of which something is missing.
    assert!(!store.file("images").join("base/image.json").exists());
    let empty = Host::empty();
    let b = empty.artifacts(Some(store.source()));
    assert!(b.ensure(&image.name).await.unwrap().is_none());

    store.refuse_chunks_after(None);
    let rest = artifacts.publish(&image.name).await.unwrap();
    assert_eq!(rest.new_chunks as usize, store.chunks().len() - sent);
    assert!(b.ensure(&image.name).await.unwrap().is_some());
    assert!(
        !store
            .file("publishing")
            .join("images/base/image.json")
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_in_the_source_is_refused() {
    let (store, a, image) = published().await;
    let whole = template::images(&a.home, &image.name).unwrap().unwrap();
    let layer = file::describe(&whole.layers[0], String::new()).unwrap();
    let chunk = layer.chunks[1].clone().unwrap();
    let path = store.file(&source::chunk_at(&chunk));
    let sound = fs::read(&path).unwrap();
    let other = layer.chunks[0].clone().unwrap();
    let other = fs::read(store.file(&source::chunk_at(&other))).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let refused: [(&str, Option<Vec<u8>>, &str); 6] = [
        ("another chunk", Some(other), "damaged"),
        (
            "half of it",
            Some(sound[..sound.len() / 2].to_vec()),
            "damaged",
        ),
        ("no zstd", Some(b"nonsense".to_vec()), "damaged"),
        ("a bomb", Some(bomb), "damaged"),
        ("far too much", Some(vec![1; 2 << 20]), "larger"),
        ("nothing", None, "does not have"),
    ];
    for (what, content, expected) in refused {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let b = Host::empty();
        let artifacts = b.artifacts(Some(store.source()));
        let error = artifacts.ensure(&image.name).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{what}: {error}");
        assert!(!b.has(&image.name), "{what}");
        let left: Vec<_> = b.files().into_keys().collect();
        let half = left.iter().filter(|name| name.starts_with("fetch/"));
        assert_eq!(half.count(), 0, "{what}: {left:?}");
        assert!(!b.home.rootfs().join("base.erofs").exists(), "{what}");
    }
    fs::write(&path, sound).unwrap();
    let empty = Host::empty();
    let b = empty.artifacts(Some(store.source()));
    assert!(b.ensure(&image.name).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_that_lies_is_refused() {
    let (store, _a, image) = published().await;
    let path = store.file(&images::image_at(&image.name));
    let sound = fs::read_to_string(&path).unwrap();
    let mut liar: ArtifactSet<serde_json::Value> = serde_json::from_str(&sound).unwrap();
    liar.files[0].sha256 = "0".repeat(64);
    let wrong_whole = serde_json::to_string(&liar).unwrap();
    for (what, text, expected) in [
        (
            "another format",
            sound.replace("\"format\": 1", "\"format\": 2"),
            "format 2",
        ),
        ("no JSON", "{".to_owned(), "cannot be used"),
        (
            "outside",
            sound.replace("rootfs/base.erofs", "rootfs/../../x.erofs"),
            "cannot be used",
        ),
        (
            "hidden",
            sound.replace("rootfs/base.erofs", "rootfs/.step-1.erofs"),
            "cannot be used",
        ),
        (
            "another place",
            sound.replace("rootfs/base.erofs", "seeds/base.erofs"),
            "cannot be used",
        ),
        (
            "other content",
            sound.replace("\"boot\": \"base\"", "\"boot\": \"other\""),
            "its name",
        ),
        (
            "other chunks",
            sound.replace("\"bytes\": 3", "\"bytes\": 9"),
            "cannot be",
        ),
        ("another whole", wrong_whole, "damaged"),
    ] {
        assert_ne!(text, sound, "{what}");
        fs::write(&path, text).unwrap();
        let b = Host::empty();
        let artifacts = b.artifacts(Some(store.source()));
        let error = artifacts.ensure(&image.name).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{what}: {error}");
        assert!(!b.has(&image.name), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_disk_is_fetched_again_or_refused() {
    let (store, a, image) = published().await;
    let artifacts = a.artifacts(Some(store.source()));
    artifacts.ensure(&image.name).await.unwrap().unwrap();
    let before = a.files();
    for (file, offset) in [
        ("rootfs/base.erofs", 2 * CHUNK_BYTES),
        ("kernels/linux-1/bzImage", 0),
        ("initramfs/a.cpio", 2),
    ] {
        let path = a.home.root().join(file);
        flip_a_byte(&path, offset);
        assert!(artifacts.ensure(&image.name).await.unwrap().is_some());
        assert_eq!(a.files().get(file), before.get(file), "{file}");
        // One that is gone is the same.
        fs::remove_file(&path).unwrap();
        assert!(artifacts.ensure(&image.name).await.unwrap().is_some());
        assert_eq!(a.files().get(file), before.get(file), "{file}");
    }
    // Only what was damaged was fetched: of the base one file of four chunks
    // twice, and two small ones.
    assert_eq!(store.count("GET", "/chunks/"), 2 * 4 + 2 * 2);

    // Nothing is booted that is not whole; also by another process, and for
    // want of a source.
    let without = a.artifacts(None);
    without.ensure(&image.name).await.unwrap().unwrap();
    flip_a_byte(&a.home.rootfs().join("base.erofs"), 9);
    for artifacts in [&without, &a.artifacts(None)] {
        let error = artifacts.ensure(&image.name).await.unwrap_err();
        assert!(matches!(error, ArtifactError::NoSource(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_read_the_next_need_not_read() {
    let (store, a, image) = published().await;
    let b = Host::empty();
    let fetching = b.artifacts(Some(store.source()));
    fetching.ensure(&image.name).await.unwrap().unwrap();
    let next = |host: &Host| host.artifacts(None);
    let is_known = |host: &Host| next(host).is_known_whole(&image.name).unwrap();
    assert!(is_known(&a), "it was read when it was published");
    assert!(is_known(&b), "it was read when it was fetched");

    // A link is no other content: VMs have the memory of their seed by one.
    let base = a.home.rootfs().join("base.erofs");
    fs::hard_link(&base, a.home.root().join("link")).unwrap();
    assert!(is_known(&a));

    // Not if a file was written since, were it nothing in the end.
    flip_a_byte(&base, 9);
    assert!(!is_known(&a));
    let error = next(&a).ensure(&image.name).await.unwrap_err();
    assert!(matches!(error, ArtifactError::NoSource(_)), "{error}");
    flip_a_byte(&base, 9);
    assert!(!is_known(&a));

    // Nor if the machine was started anew, or what is recorded is no record.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for (now, then) in [(boot.trim(), "another boot"), ("{", "")] {
        next(&a).ensure(&image.name).await.unwrap().unwrap();
        assert!(is_known(&a), "{then}");
        let record = fs::read_to_string(a.home.verified()).unwrap();
        assert!(record.contains(now), "{record}");
        fs::write(a.home.verified(), record.replacen(now, then, 1)).unwrap();
        assert!(!is_known(&a), "{then}");
    }
    next(&a).ensure(&image.name).await.unwrap().unwrap();
    assert!(is_known(&a));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_down_stops_only_what_needs_it() {
    let (store, a, image) = published().await;
    let source = store.source();
    let refused = a.artifacts(Some(store.source_as("wrong")));
    let error = refused.publish(&image.name).await.unwrap_err();
    assert!(error.to_string().contains("refused access"), "{error}");
    drop(store);
    let artifacts = a.artifacts(Some(source.clone()));
    assert!(artifacts.ensure(&image.name).await.unwrap().is_some());
    let error = artifacts.publish(&image.name).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Source { .. }), "{error}");
    let b = Host::empty();
    let error = b
        .artifacts(Some(source))
        .ensure(&image.name)
        .await
        .unwrap_err();
    assert!(matches!(error, ArtifactError::Source { .. }), "{error}");
    assert!(!b.has(&image.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_the_same_at_once_fetches_it_once() {
    let (store, _a, image) = published().await;
    let b = Host::empty();
    // Two processes, each with several that want it.
    let servers = [0, 1].map(|_| Arc::new(b.artifacts(Some(store.source()))));
    let mut asking = tokio::task::JoinSet::new();
    for server in servers.iter().cycle().take(8) {
        let (server, name) = (Arc::clone(server), image.name.clone());
        asking.spawn(async move { server.ensure(&name).await.map(|held| held.is_some()) });
    }
    while let Some(ensured) = asking.join_next().await {
        assert!(ensured.unwrap().unwrap());
    }
    // Of the two files with one content each is fetched.
    assert_eq!(store.count("GET", "/chunks/"), store.chunks().len() + 1);
    assert_eq!(
        b.files()
            .keys()
            .filter(|name| name.starts_with("fetch/"))
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_killed_leaves_nothing_the_next_start_keeps() {
    let (store, _a, image) = published().await;
    let b = Host::empty();
    let dead = b.home.fetch().join(format!("{}.part", "a".repeat(64)));
    fs::write(&dead, "half").unwrap();
    let busy = b.home.fetch().join(format!("{}.part", "b".repeat(64)));
    let held = File::create(&busy).unwrap();
    held.lock().unwrap();
    let artifacts = b.artifacts(Some(store.source()));
    assert!(!dead.exists(), "nobody fetches it");
    assert!(busy.exists(), "another process does");
    drop(held);
    // One that is given up in the middle.
    let given_up = tokio::time::timeout(Duration::ZERO, artifacts.ensure(&image.name)).await;
    assert!(given_up.is_err());
    assert!(!b.has(&image.name));
    assert!(artifacts.ensure(&image.name).await.unwrap().is_some());
    assert_eq!(
        b.files()
            .keys()
            .filter(|name| name.starts_with("fetch/a"))
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_used_for_longest_goes_if_it_can_come_back() {
    let store = Store::start().await;
    let a = Host::with_base();
    let images: [_; 6] = std::array::from_fn(|place| a.build(&noise(place as u64, 1 << 20)));
    let [oldest, running, held, pinned, unpublished, newest] = &images;
    let budget = |max| Artifacts::open(a.home.clone(), Some(store.source()), Some(max)).unwrap();
    let artifacts = budget(0);
    for (age, image) in images.iter().enumerate() {
        if image.name != unpublished.name {
            artifacts.publish(&image.name).await.unwrap();
        }
        let file = File::open(a.home.rootfs().join(format!("{}.json", image.name))).unwrap();
        let used = SystemTime::now() - Duration::from_secs(1000 - age as u64);
        file.set_modified(used).unwrap();
    }
    let layers = |image: &PublishedImage| {
        template::images(&a.home, &image.name)
            .unwrap()
            .unwrap()
            .layers
    };
    let in_use = layers(running);
    let _held = artifacts.ensure(&held.name).await.unwrap().unwrap();
    let dir = BuildDir::create(&a.home, "child").unwrap();
    Stack::of_image(&a.home, &dir, &pinned.name)
        .unwrap()
        .unwrap();

    let remove = |image: &str| -> Result<(), ArtifactError> {
        Ok(built::remove_image(&a.home, image, &in_use)?)
    };
    // Enough for all but one.
    let bytes = artifacts.bytes().await.unwrap();
    let roomy = budget(bytes - 1);
    let evicted = roomy.evict(&in_use, remove).await.unwrap();
    assert_eq!(evicted, [oldest.name.as_str()]);
    let evicted = artifacts.evict(&in_use, remove).await.unwrap();
    assert_eq!(evicted, [newest.name.as_str()]);
    for image in [running, held, pinned, unpublished] {
        assert!(a.has(&image.name));
    }
    assert!(a.has("base"));
    // Of one that lost its copy in the source nothing is removed here.
    drop(dir);
    let layer = layers(pinned).pop().unwrap();
    let own = file::describe(&layer, String::new()).unwrap();
    let chunk = own.chunks.iter().flatten().next().unwrap();
    fs::remove_file(store.file(&source::chunk_at(chunk))).unwrap();
    assert_eq!(artifacts.evict(&in_use, remove).await.unwrap(), [""; 0]);

    // What went comes back, and is what it was.
    assert!(artifacts.ensure(&oldest.name).await.unwrap().is_some());
    assert!(a.has(&oldest.name));
    assert_eq!(
        Artifacts::open(a.home.clone(), None, Some(0))
            .unwrap()
            .evict(&in_use, remove)
            .await
            .unwrap(),
        [""; 0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_go_with_the_last_that_is_made_of_them() {
    let (store, a, first) = published().await;
    let artifacts = a.artifacts(Some(store.source()));
    let before = store.chunks();
    let second = a.build(b"other content");
    artifacts.publish(&second.name).await.unwrap();
    let source = store.source();
    // Somebody is on the way with chunks that nothing describes yet.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("memory"), noise(9, 100)).unwrap();
    let described = file::describe(&other.path().join("memory"), "memory".to_owned()).unwrap();
    let coming = described.chunks[0].clone().unwrap();
    let set = ArtifactSet::new((), vec![described]);
    source
        .put_json("publishing/images/x/seeds/y.json", &set)
        .await
        .unwrap();
    source
        .put(&source::chunk_at(&coming), "packed".into())
        .await
        .unwrap();

    source
        .withdraw(&format!("images/{}", second.name))
        .await
        .unwrap();
    let mut expected = before.clone();
    expected.push(coming);
    expected.sort();
    assert_eq!(store.chunks(), expected);
    source.withdraw("images/x").await.unwrap();
    assert_eq!(store.chunks(), before);
    source
        .withdraw(&format!("images/{}", first.name))
        .await
        .unwrap();
    source.withdraw("images/base").await.unwrap();
    assert_eq!(store.chunks(), [""; 0]);
    assert!(!store.file(collect::COLLECTING).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_publishes_waits_for_who_removes() {
    let (store, a, image) = published().await;
    let source = store.source();
    source.put(collect::COLLECTING, "".into()).await.unwrap();
    let artifacts = Arc::new(a.artifacts(Some(store.source())));
    let (publisher, name) = (Arc::clone(&artifacts), image.name.clone());
    let chunks_looked_for = store.count("HEAD", "/chunks/");
    let publishing = tokio::spawn(async move { publisher.publish(&name).await });
    // Its own look at who collects, and one more.
    let deadline = std::time::Instant::now() + PATIENCE;
    while store.count("HEAD", "/collecting") < 4 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert!(!publishing.is_finished());
    assert_eq!(store.count("HEAD", "/chunks/"), chunks_looked_for);
    // Nobody removes while somebody does.
    source.collect().await.unwrap();
    assert!(store.file(collect::COLLECTING).exists());
    source
        .delete(vec![collect::COLLECTING.to_owned()])
        .await
        .unwrap();
    publishing.await.unwrap().unwrap();
}

#[test]
fn what_is_no_source_is_told() {
    for url in ["s3://", "http://bucket", "s3:///prefix", "s3://bucket/a//b"] {
        let error = ArtifactSource::s3(url, &S3Access::default()).unwrap_err();
        assert!(matches!(error, ArtifactError::Setting(_)), "{url}: {error}");
    }
    assert!(is_digest(&"a0".repeat(32)));
    for text in ["", "a", &"A0".repeat(32), &"../".repeat(21)] {
        assert!(!is_digest(text), "{text}");
    }
}
