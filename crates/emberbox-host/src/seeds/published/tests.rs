use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use emberbox_image::ArtifactSource;
use tempfile::TempDir;

use super::*;

struct Host {
    dir: TempDir,
    seeds: PublishedSeeds,
}

impl Host {
    fn new(source: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let source = source.map(|path| ArtifactSource::directory(path).unwrap());
        let artifacts = Artifacts::open(home, source, None).unwrap();
        Self {
            dir,
            seeds: PublishedSeeds::new(Arc::new(artifacts)),
        }
    }

    fn seed(&self) -> PathBuf {
        self.dir.path().join("seeds/key")
    }

    fn empty_seed(&self) -> PathBuf {
        fs::create_dir(self.seed()).unwrap();
        self.seed()
    }

    /// A seed with memory that is mostly holes.
    fn taken(&self) -> PathBuf {
        let dir = self.empty_seed();
        let memory = fs::File::create(dir.join("memory")).unwrap();
        memory.set_len(64 << 20).unwrap();
        memory.write_all_at(b"some pages", 33 << 20).unwrap();
        fs::write(dir.join("state"), "devices").unwrap();
        fs::write(dir.join("scratch.ext4"), "disk").unwrap();
        dir
    }
}

fn facts() -> SeedFacts {
    SeedFacts {
        format: 1,
        images: "digest".to_owned(),
        kernel: "kernels/1/bzImage".to_owned(),
        initramfs: "initramfs/1.cpio".to_owned(),
        engine: "qemu".to_owned(),
        version: "7.2".to_owned(),
        accelerator: "kvm".to_owned(),
        compatibility: "pc".to_owned(),
        cpu: Some("avx".to_owned()),
        shape: Shape::DEFAULT,
    }
}

/// One that differs in one thing each, and what that is called.
fn others() -> Vec<(&'static str, SeedFacts)> {
    let change = |change: fn(&mut SeedFacts)| {
        let mut facts = facts();
        change(&mut facts);
        facts
    };
    vec![
        ("format", change(|facts| facts.format = 2)),
        ("images", change(|facts| facts.images.push('2'))),
        ("kernel", change(|facts| facts.kernel.push('2'))),
        ("agent", change(|facts| facts.initramfs.push('2'))),
        ("engine", change(|facts| facts.engine.push('2'))),
        ("version", change(|facts| facts.version.push('2'))),
        ("accelerator", change(|facts| facts.accelerator.push('2'))),
        ("CPU features", change(|facts| facts.cpu = None)),
        ("machine", change(|facts| facts.compatibility.push('2'))),
        ("shape", change(|facts| facts.shape.vcpus += 1)),
    ]
}

#[tokio::test]
async fn only_what_fits_in_everything_is_fetched() {
    let source = tempfile::tempdir().unwrap();
    let a = Host::new(Some(source.path()));
    let seed = a.taken();
    let sent = a.seeds.publish("image", facts(), &seed).await.unwrap();
    // Of 64 MiB of memory one piece, the disk and the devices.
    assert_eq!((sent.chunks, sent.new_chunks), (3, 3));

    for (what, other) in others() {
        assert_eq!(facts().differences(&other), [what]);
        let b = Host::new(Some(source.path()));
        let dir = b.empty_seed();
        let fetched = b.seeds.fetch("image", &other, &dir).await;
        assert!(!fetched.unwrap(), "{what}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{what}");
        let told = b.seeds.others("image", &other).await.unwrap();
        assert_eq!(told, [(facts(), vec![what])]);
    }

    let b = Host::new(Some(source.path()));
    let dir = b.empty_seed();
    assert!(!b.seeds.fetch("other", &facts(), &dir).await.unwrap());
    assert!(b.seeds.fetch("image", &facts(), &dir).await.unwrap());
    for file in FILES {
        let (there, here) = (fs::read(seed.join(file)), fs::read(dir.join(file)));
        assert!(there.unwrap() == here.unwrap(), "{file}");
    }
    assert!(b.seeds.is_sound(&dir).await.unwrap());
    let memory = emberbox_runtime::disk::allocated_bytes(&dir.join("memory")).unwrap();
    assert!(memory <= 2 << 20, "holes stay holes: {memory}");
}

#[tokio::test]
async fn what_is_described_falsely_is_not_used() {
    let source = tempfile::tempdir().unwrap();
    let a = Host::new(Some(source.path()));
    a.seeds.publish("image", facts(), &a.taken()).await.unwrap();
    // Somebody put one seed in another's place.
    let (_, other) = others().remove(5);
    let at = |facts: &SeedFacts| source.path().join(facts.at("image"));
    fs::copy(at(&facts()), at(&other)).unwrap();
    let b = Host::new(Some(source.path()));
    let dir = b.empty_seed();
    let error = b.seeds.fetch("image", &other, &dir).await.unwrap_err();
    assert!(error.to_string().contains("another version"), "{error}");
    // Other files than a seed has.
    let text = fs::read_to_string(at(&facts())).unwrap();
    fs::write(at(&facts()), text.replace("\"memory\"", "\"../memory\"")).unwrap();
    let error = b.seeds.fetch("image", &facts(), &dir).await.unwrap_err();
    assert!(error.to_string().contains("other files"), "{error}");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_seed_is_noticed_with_and_without_a_source() {
    let source = tempfile::tempdir().unwrap();
    for source in [None, Some(source.path())] {
        let host = Host::new(source);
        let dir = host.taken();
        assert!(
            host.seeds.is_sound(&dir).await.unwrap(),
            "nobody said what it is"
        );
        host.seeds.publish("image", facts(), &dir).await.unwrap();
        assert!(host.seeds.is_sound(&dir).await.unwrap());
        let memory = fs::File::options()
            .write(true)
            .open(dir.join("memory"))
            .unwrap();
        memory.write_all_at(b"x", 5 << 20).unwrap();
        assert!(!host.seeds.is_sound(&dir).await.unwrap());
        memory.write_all_at(&[0], 5 << 20).unwrap();
        assert!(host.seeds.is_sound(&dir).await.unwrap());
        fs::remove_file(dir.join("state")).unwrap();
        assert!(!host.seeds.is_sound(&dir).await.unwrap());
    }
}

#[tokio::test]
async fn the_source_is_asked_once() {
    let source = tempfile::tempdir().unwrap();
    let host = Host::new(Some(source.path()));
    assert!(host.seeds.is_first_look("image", &facts()));
    assert!(!host.seeds.is_first_look("image", &facts()));
    assert!(host.seeds.is_first_look("other", &facts()));
    host.seeds.look_again("image", &facts());
    assert!(host.seeds.is_first_look("image", &facts()));
    assert!(!Host::new(None).seeds.is_first_look("image", &facts()));
}
