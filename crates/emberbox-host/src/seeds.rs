//! Which memory snapshots there are, and how new ones come.
//!
//! ```text
//! HOME/seeds/KEY/{memory,state,scratch.ext4,manifest.json}
//!               /artifacts.json   what its files are, once it was published
//!           /KEY.unfinished/      being made or fetched; removed when a host opens
//! ```
//!
//! `KEY` is a digest of everything a snapshot depends on: guest images, engine
//! and shape. So a seed that does not fit is simply not found.
//!
//! Invariants: a directory under its key is complete and never changes; one
//! seed of a key is taken at a time on the whole machine; a seed is an
//! optimisation, and without one a VM boots cold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use emberbox_core::{Shape, VmId};
use emberbox_guest::{App, ExecSpec};
use emberbox_image::{ArtifactError, Artifacts, GuestImages, Home, Lock, Sent, TemplateApp};
use emberbox_runtime::net::SlotPool;
use emberbox_runtime::seed::{self, SeedFiles};
use emberbox_runtime::{Engine, EngineDescription};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::actor::report;
use crate::host::{HostError, boot_images};
use crate::ledger::{Ledger, Record};

mod published;

use published::{PublishedSeeds, SeedFacts};

/// Seeds kept in one home. A default one takes 150 to 250 MB of disk; the one
/// that was not used for longest goes.
const MAX_SEEDS: usize = 32;

/// How long a template's app may take until it is ready: a development server
/// that compiles everything at its start takes minutes under emulation.
const APP_READY: Duration = Duration::from_secs(600);

/// How long one try whether it is may take.
const READY_TRY: Duration = Duration::from_secs(20);

const MANIFEST: &str = "manifest.json";
const UNFINISHED: &str = "unfinished";

/// Bumped when the meaning of a seed's files changes.
const GENERATION: u32 = 1;

/// What a seed was taken from.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    generation: u32,
    images: &'a str,
    engine: &'a EngineDescription,
    shape: Shape,
}

/// The seeds of one home, for one engine.
pub(crate) struct Seeds {
    home: Home,
    engine: Arc<dyn Engine>,
    slots: Arc<SlotPool>,
    ledger: Ledger,
    published: PublishedSeeds,
    /// One at a time: a seed costs a cold boot's work.
    turn: Semaphore,
}

impl Seeds {
    pub(crate) fn new(
        home: Home,
        engine: Arc<dyn Engine>,
        slots: Arc<SlotPool>,
        ledger: Ledger,
        artifacts: Arc<Artifacts>,
    ) -> Self {
        Self {
            home,
            engine,
            slots,
            ledger,
            published: PublishedSeeds::new(artifacts),
            turn: Semaphore::new(1),
        }
    }

    /// Removes what was being made or fetched when its process ended.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.home.seeds())? {
            let path = entry?.path();
            if path.extension().is_none_or(|kind| kind != UNFINISHED) {
                continue;
            }
            let lock = self.home.try_lock(&lock_name(&path.with_extension("")));
            // Another server may be at it.
            if lock.map_err(io::Error::other)?.is_some() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    /// Where images and seeds live.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The seed of these images and this shape, if there is one.
    pub(crate) fn find(&self, images: &GuestImages, shape: Shape) -> Option<SeedFiles> {
        let dir = self.dir(images, shape);
        let manifest = fs::File::open(dir.join(MANIFEST)).ok()?;
        // Its time is when it was last used; eviction goes by it.
        let _ = manifest.set_modified(SystemTime::now());
        Some(SeedFiles::in_dir(&dir))
    }

    /// Describes a seed, and publishes it if there is a source. Nothing is done
    /// if there is no seed.
    pub(crate) async fn publish(
        &self,
        images: &GuestImages,
        shape: Shape,
    ) -> Result<Sent, ArtifactError> {
        if self.find(images, shape).is_none() {
            return Ok(Sent::default());
        }
        let (facts, dir) = (self.facts(images, shape), self.dir(images, shape));
        self.published.publish(&images.template, facts, &dir).await
    }

    /// Sees to it that what [`Seeds::find`] gives is sound: removes a seed that
    /// is damaged, and fetches one that fits if there is none here. A seed is
    /// an optimisation: failures are only told.
    pub(crate) async fn make_ready(&self, images: &GuestImages, shape: Shape) {
        let image = &images.template;
        if let Err(error) = self.remove_unsound(images, shape).await {
            tracing::warn!(image, error = report(&error), "a seed cannot be checked");
        }
        let facts = self.facts(images, shape);
        if self.find(images, shape).is_some() || !self.published.is_first_look(image, &facts) {
            return;
        }
        if let Err(error) = self.fetch(images, shape, &facts).await {
            let error = report(&error);
            tracing::warn!(image, error, "a seed cannot be fetched; it is taken anew");
        }
    }

    async fn remove_unsound(&self, images: &GuestImages, shape: Shape) -> Result<(), HostError> {
        let dir = self.dir(images, shape);
        if self.published.is_sound(&dir).await? {
            return Ok(());
        }
        tracing::warn!(seed = %dir.display(), "a seed is damaged, removing it");
        let facts = self.facts(images, shape);
        self.published.look_again(&images.template, &facts);
        remove_seed(&dir).map_err(HostError::start)
    }

    /// Two that want the same seed fetch it once.
    async fn fetch(
        &self,
        images: &GuestImages,
        shape: Shape,
        facts: &SeedFacts,
    ) -> Result<(), HostError> {
        let dir = self.dir(images, shape);
        let _lock = self.lock(&dir).await?;
        if self.find(images, shape).is_some() {
            return Ok(());
        }
        self.evict().map_err(HostError::start)?;
        let unfinished = Unfinished::create(&dir).map_err(HostError::start)?;
        let fetched = self
            .published
            .fetch(&images.template, facts, unfinished.path());
        if fetched.await? {
            self.write_manifest(images, shape, unfinished.path())
                .map_err(HostError::start)?;
            fs::rename(unfinished.path(), &dir).map_err(HostError::start)?;
            tracing::info!(images = images.digest, %shape, "seed fetched");
        }
        Ok(())
    }

    fn facts(&self, images: &GuestImages, shape: Shape) -> SeedFacts {
        SeedFacts::new(&self.home, images, self.engine.describe(), shape)
    }

    /// Takes the seed unless there is one already.
    pub(crate) async fn ensure(
        &self,
        images: &GuestImages,
        shape: Shape,
    ) -> Result<SeedFiles, HostError> {
        let never = CancellationToken::new();
        self.ensure_unless(images, shape, &never).await
    }

    /// The same, given up when `cancel` says so: that is an error, and leaves
    /// nothing.
    pub(crate) async fn ensure_unless(
        &self,
        images: &GuestImages,
        shape: Shape,
        cancel: &CancellationToken,
    ) -> Result<SeedFiles, HostError> {
        let _turn = self.turn.acquire().await.map_err(HostError::start)?;
        if let Some(files) = self.find(images, shape) {
            return Ok(files);
        }
        let dir = self.dir(images, shape);
        let _lock = self.lock(&dir).await?;
        // Another server may have taken it meanwhile.
        if let Some(files) = self.find(images, shape) {
            return Ok(files);
        }
        self.evict().map_err(HostError::start)?;
        self.take(images, shape, &dir, cancel).await?;
        tracing::info!(images = images.digest, %shape, "seed taken");
        Ok(SeedFiles::in_dir(&dir))
    }

    /// Held by whoever makes or fetches the seed of this directory.
    async fn lock(&self, dir: &Path) -> Result<Lock, HostError> {
        let (home, name) = (self.home.clone(), lock_name(dir));
        let lock = tokio::task::spawn_blocking(move || home.lock(&name)).await;
        lock.map_err(HostError::start)?.map_err(HostError::start)
    }

    async fn take(
        &self,
        images: &GuestImages,
        shape: Shape,
        dir: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), HostError> {
        let slot = self.slots.take().await.map_err(HostError::start)?;
        let record = Record {
            vm: VmId::generate(),
            sandbox: None,
            shape,
            images: boot_images(images),
            slot: slot.index(),
            claimed: false,
        };
        // Goes after the VM that writes into it.
        let mut unfinished = None;
        let taken = cancel.run_until_cancelled(async {
            self.ledger.put(&record).map_err(HostError::start)?;
            let made = Unfinished::create(dir).map_err(HostError::start)?;
            let unfinished = unfinished.insert(made);
            let spec = self.ledger.spec(&record, Arc::clone(&slot));
            emberbox_image::make_scratch(&spec.scratch, shape.disk_mib)
                .map_err(HostError::start)?;
            let files = SeedFiles::in_dir(unfinished.path());
            seed::take(&*self.engine, &spec, images.app.as_ref().map(app), &files)
                .await
                .map_err(HostError::start)?;
            self.write_manifest(images, shape, unfinished.path())
                .map_err(HostError::start)?;
            fs::rename(unfinished.path(), dir).map_err(HostError::start)
        });
        let taken = match taken.await {
            Some(taken) => taken,
            None => {
                let place = self.ledger.place(&record.vm);
                self.engine.reap(&place).await.map_err(HostError::start)?;
                Err(HostError::start("the seed is not wanted any more"))
            }
        };
        drop(unfinished);
        self.slots.discard(&slot).await.map_err(HostError::start)?;
        self.ledger.remove(&record.vm).map_err(HostError::start)?;
        taken
    }

    /// Removes every seed of these images that this engine can use. A VM that
    /// was restored needs its seed's files no longer.
    pub(crate) fn forget(&self, images: &GuestImages) -> io::Result<()> {
        for entry in fs::read_dir(self.home.seeds())? {
            let dir = entry?.path();
            let Ok(text) = fs::read(dir.join(MANIFEST)) else {
                continue;
            };
            let manifest: serde_json::Value = serde_json::from_slice(&text)?;
            if manifest["images"] == *images.digest {
                remove_seed(&dir)?;
            }
        }
        Ok(())
    }

    fn write_manifest(&self, images: &GuestImages, shape: Shape, dir: &Path) -> io::Result<()> {
        let manifest = self.manifest(images, shape);
        fs::write(dir.join(MANIFEST), serde_json::to_vec_pretty(&manifest)?)
    }

    fn manifest<'a>(&'a self, images: &'a GuestImages, shape: Shape) -> Manifest<'a> {
        let engine = self.engine.describe();
        Manifest {
            generation: GENERATION,
            images: &images.digest,
            engine,
            shape,
        }
    }

    fn dir(&self, images: &GuestImages, shape: Shape) -> PathBuf {
        let manifest = serde_json::to_vec(&self.manifest(images, shape))
            .expect("a manifest is plain strings and numbers");
        let digest = Sha256::digest(manifest);
        let key: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.home.seeds().join(key)
    }

    /// Makes room for one more. A VM that was restored needs its seed's files
    /// no longer, so any of them may go.
    fn evict(&self) -> io::Result<()> {
        let mut seeds = Vec::new();
        for entry in fs::read_dir(self.home.seeds())? {
            let dir = entry?.path();
            if let Ok(manifest) = fs::metadata(dir.join(MANIFEST)) {
                seeds.push((manifest.modified()?, dir));
            }
        }
        seeds.sort();
        let surplus = (seeds.len() + 1).saturating_sub(MAX_SEEDS);
        for (_, dir) in seeds.into_iter().take(surplus) {
            remove_seed(&dir)?;
        }
        Ok(())
    }
}

/// A template's app as the agent takes it.
pub(crate) fn app(app: &TemplateApp) -> App {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let command = |command: &String, timeout_ms| ExecSpec {
        command: command.clone(),
        cwd: "/".to_owned(),
        timeout_ms,
        ..ExecSpec::default()
    };
    App {
        start: command(&app.start, 0),
        ready: app
            .ready
            .as_ref()
            .map(|ready| command(ready, millis(READY_TRY))),
        patience_ms: millis(APP_READY),
    }
}

/// A seed's directory that is being filled. It goes when this is dropped,
/// unless it has its final name by then.
struct Unfinished(PathBuf);

impl Unfinished {
    /// The lock is the caller's: what stands here was left by a crash.
    fn create(dir: &Path) -> io::Result<Self> {
        let path = dir.with_extension(UNFINISHED);
        remove_dir(&path)?;
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is swept by the next start.
        let _ = remove_dir(&self.0);
    }
}

/// The manifest first: without it the seed is not found any more. Idempotent:
/// two may find the same seed damaged.
fn remove_seed(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(MANIFEST)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    remove_dir(dir)
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn lock_name(dir: &Path) -> String {
    format!("seed-{}", name_of(dir))
}

fn name_of(dir: &Path) -> String {
    dir.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
