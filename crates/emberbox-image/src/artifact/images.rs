//! Images of a home: described, published, made whole again, evicted.
//!
//! ```text
//! HOME/rootfs/.artifacts-NAME.json   what an image is made of, and where else
//!                                    that is
//!     /fetch/KEY.part                a file on its way; locked by who fetches it
//! ```
//!
//! Invariants: an image that is described is not booted before its files were
//! found to be as described; it is not evicted while somebody holds it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::known::{Known, Stamp};
use super::{Artifact, ArtifactError, ArtifactSet, ArtifactSource, Sent, home_path};
use crate::built;
use crate::digest;
use crate::error::ImageError;
use crate::home::Home;
use crate::progress::Silent;
use crate::record::{read_json, to_json};
use crate::registry::blocking;
use crate::template::{self, Manifest};

/// Ends the names of files on their way.
const PART: &str = "part";

/// Times an image is fetched again of which something was removed meanwhile.
const TRIES: usize = 3;

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageFacts {
    pub(super) image: Manifest,
}

/// What a home knows of an image that was published or fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Described {
    /// The source that has it as well.
    pub(super) source: Option<String>,
    pub(super) set: ArtifactSet<ImageFacts>,
}

/// The images of a home, and the source that others are fetched from.
#[derive(Debug)]
pub struct Artifacts {
    pub(super) home: Home,
    pub(super) source: Option<ArtifactSource>,
    /// Most bytes that images and seeds may take, if what is over can be
    /// fetched again.
    pub(super) max_bytes: Option<u64>,
    known: Arc<Known>,
    described: Mutex<HashMap<String, (Stamp, Arc<Described>)>>,
    turns: Turns,
    uses: Arc<Mutex<HashMap<String, Use>>>,
}

/// What an image is in use for.
#[derive(Debug, Clone, Copy)]
enum Use {
    Held(usize),
    Evicted,
}

/// An image that is not evicted while this is there.
#[derive(Debug)]
pub struct HeldImage {
    uses: Arc<Mutex<HashMap<String, Use>>>,
    image: String,
}

impl Drop for HeldImage {
    fn drop(&mut self) {
        let mut uses = self.uses.lock().expect("no panic while it is held");
        match uses.get_mut(&self.image) {
            Some(Use::Held(count)) if *count > 1 => *count -= 1,
            Some(Use::Held(_) | Use::Evicted) | None => {
                uses.remove(&self.image);
            }
        }
    }
}

impl Artifacts {
    /// Of this home; removes what fetches left that were killed. `max_bytes`
    /// is what its images and seeds may take together.
    pub fn open(
        home: Home,
        source: Option<ArtifactSource>,
        max_bytes: Option<u64>,
    ) -> Result<Self, ImageError> {
        sweep(&home.fetch())?;
        Ok(Self {
            known: Arc::new(Known::open(&home)),
            home,
            source,
            max_bytes,
            described: Mutex::default(),
            turns: Turns::default(),
            uses: Arc::default(),
        })
    }

    /// Where images are published and fetched from.
    #[must_use]
    pub fn source(&self) -> Option<&ArtifactSource> {
        self.source.as_ref()
    }

    /// Describes an image, and publishes it if there is a source: it can be
    /// checked, fetched by other hosts, and fetched again, from then on.
    /// Cancel-safe.
    pub async fn publish(&self, image: &str) -> Result<Sent, ArtifactError> {
        let set = self.describe(image).await?;
        let mut sent = Sent::default();
        // Another host may lack what it boots like.
        if let (Some(like), Some(_)) = (set.facts.image.boots_like(), &self.source) {
            let like = self.describe(like).await?;
            sent += self.publish_set(like).await?;
        }
        sent += self.publish_set(set).await?;
        Ok(sent)
    }

    async fn publish_set(&self, set: ArtifactSet<ImageFacts>) -> Result<Sent, ArtifactError> {
        let name = set.facts.image.name.clone();
        let mut sent = Sent::default();
        if let Some(source) = &self.source {
            let root = self.home.root();
            sent = source.publish(&image_at(&name), &set, root).await?;
        }
        let source = self.source.as_ref().map(|source| source.name().to_owned());
        let (home, described) = (self.home.clone(), Described { source, set });
        blocking(move || {
            let _lock = home.lock(built::LOCK)?;
            write(&described_at(&home, &name), &described)
        })
        .await?;
        Ok(sent)
    }

    /// An image that can be booted now: fetched if it is not here, and what is
    /// damaged of it fetched again. None if there is no such image. What one
    /// call fetches, others wait for. Cancel-safe.
    pub async fn ensure(&self, image: &str) -> Result<Option<HeldImage>, ArtifactError> {
        if !template::is_name(image) {
            return Ok(None);
        }
        let held = self.hold(image).await;
        if !self.is_known_whole(image)? {
            let _turn = self.turns.enter(image).await;
            // Boxed: an image waits for the one it boots like.
            if !Box::pin(self.make_whole(image)).await? {
                return Ok(None);
            }
        }
        // Its time is when it was last used.
        if let Ok(file) = File::open(self.image_file(image)) {
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Some(held))
    }

    /// Describes the files of a directory that is below the home, by name.
    pub async fn describe_files(
        &self,
        directory: &Path,
        names: &[&str],
    ) -> Result<Vec<Artifact>, ArtifactError> {
        let paths = names
            .iter()
            .map(|name| (directory.join(name), (*name).to_owned()));
        let (known, paths) = (Arc::clone(&self.known), paths.collect::<Vec<_>>());
        let described = blocking(move || describe_all(&known, &paths));
        Ok(described.await?)
    }

    /// Whether the files of a directory are as described. They are read only
    /// if they were not since they last changed.
    pub async fn are_as_described(
        &self,
        directory: &Path,
        artifacts: Vec<Artifact>,
    ) -> Result<bool, ArtifactError> {
        let mut paths = artifacts
            .iter()
            .map(|file| (directory.join(&file.path), file));
        if paths.all(|(path, file)| self.known.is_known(&path, file)) {
            return Ok(true);
        }
        let (known, directory) = (Arc::clone(&self.known), directory.to_owned());
        let checked = blocking(move || {
            for file in artifacts {
                let path = directory.join(&file.path);
                let same = known.is_as_described(&path, &file);
                if !same.map_err(ImageError::io("read", &path))? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        Ok(checked.await?)
    }

    /// Runs `remove` unless somebody holds the image; nobody gets it meanwhile.
    pub(super) async fn unless_held<T>(
        &self,
        image: &str,
        remove: impl FnOnce() -> T,
    ) -> Option<T> {
        let _turn = self.turns.enter(image).await;
        {
            let mut uses = self.uses();
            if uses.contains_key(image) {
                return None;
            }
            uses.insert(image.to_owned(), Use::Evicted);
        }
        // Dropping it lets others have the image again.
        let _evicted = HeldImage {
            uses: Arc::clone(&self.uses),
            image: image.to_owned(),
        };
        Some(remove())
    }

    async fn hold(&self, image: &str) -> HeldImage {
        loop {
            {
                let mut uses = self.uses();
                let entry = uses.entry(image.to_owned()).or_insert(Use::Held(0));
                if let Use::Held(count) = entry {
                    *count += 1;
                    break;
                }
            }
            // Who evicts it has the turn.
            drop(self.turns.enter(image).await);
        }
        HeldImage {
            uses: Arc::clone(&self.uses),
            image: image.to_owned(),
        }
    }

    /// Whether an image is here and nothing of it has to be read to know that
    /// it is as it should be.
    pub(super) fn is_known_whole(&self, image: &str) -> Result<bool, ImageError> {
        if template::images(&self.home, image)?.is_none() {
            return Ok(false);
        }
        let Some(described) = self.described(image)? else {
            return Ok(true);
        };
        let set = &described.set;
        if let Some(like) = set.facts.image.boots_like()
            && !self.is_known_whole(like)?
        {
            return Ok(false);
        }
        let mut files = set.files.iter();
        Ok(files.all(|file| {
            let path = self.home.root().join(&file.path);
            self.known.is_known(&path, file)
        }))
    }

    async fn make_whole(&self, image: &str) -> Result<bool, ArtifactError> {
        for _ in 0..TRIES {
            let described = self.described(image)?;
            let complete = template::images(&self.home, image)?.is_some();
            let set = match (described, &self.source) {
                // Nobody has said what it should be.
                (None, _) if complete => return Ok(true),
                (Some(described), _) => described.set.clone(),
                (None, Some(source)) => match source.set(&image_at(image)).await? {
                    Some(set) => set,
                    None => return Ok(false),
                },
                (None, None) => return Ok(false),
            };
            check(&set, image)?;
            if let Some(like) = set.facts.image.boots_like()
                && self.ensure(like).await?.is_none()
            {
                return Err(ArtifactError::Missing(image_at(like)));
            }
            let damaged = self.damaged(&set).await?;
            if !damaged.is_empty() {
                let source = self.source.as_ref();
                let source = source.ok_or_else(|| ArtifactError::NoSource(image.to_owned()))?;
                let files = damaged.len();
                tracing::info!(image, files, source = source.name(), "fetching an image");
                self.fetch_files(source, &damaged).await?;
            }
            if template::images(&self.home, image)?.is_none() {
                self.record(image, set).await?;
            }
            if template::images(&self.home, image)?.is_some() {
                return Ok(true);
            }
            // Something of it was removed again before it was recorded.
        }
        Ok(false)
    }

    /// Those of its files that are not as they should be.
    async fn damaged(&self, set: &ArtifactSet<ImageFacts>) -> Result<Vec<Artifact>, ArtifactError> {
        let (known, root) = (Arc::clone(&self.known), self.home.root().to_owned());
        let files = set.files.clone();
        let damaged = blocking(move || {
            let mut damaged = Vec::new();
            for file in files {
                let path = root.join(&file.path);
                let same = known.is_as_described(&path, &file);
                if !same.map_err(ImageError::io("read", &path))? {
                    if path.exists() {
                        tracing::warn!(file = %path.display(), "a file of an image is damaged");
                    }
                    damaged.push(file);
                }
            }
            Ok(damaged)
        });
        Ok(damaged.await?)
    }

    async fn fetch_files(
        &self,
        source: &ArtifactSource,
        files: &[Artifact],
    ) -> Result<(), ArtifactError> {
        let mut parts = Vec::new();
        // In the order of their paths, as a set has them: so nobody waits for
        // somebody who waits for him.
        for artifact in files {
            let target = self.home.root().join(&artifact.path);
            if let Some(part) = self.fetch_file(source, artifact, &target).await? {
                parts.push((part, artifact.clone(), target));
            }
        }
        let (home, known) = (self.home.clone(), Arc::clone(&self.known));
        Ok(blocking(move || put_in_place(&home, &known, parts)).await?)
    }

    /// A file under its temporary name; none if somebody else has fetched it.
    async fn fetch_file(
        &self,
        source: &ArtifactSource,
        artifact: &Artifact,
        target: &Path,
    ) -> Result<Option<Part>, ArtifactError> {
        // By its place as well: another file may have the same content.
        let key = digest::key([&artifact.path, &artifact.sha256]);
        let path = self.home.fetch().join(key).with_extension(PART);
        let (known, wanted) = (Arc::clone(&self.known), artifact.clone());
        let target = target.to_owned();
        let part = blocking(move || {
            let part = Part::open(path)?;
            let there = known.is_as_described(&target, &wanted);
            let there = there.map_err(ImageError::io("read", &target))?;
            Ok((!there).then_some(part))
        });
        let Some(part) = part.await? else {
            return Ok(None);
        };
        source.fetch(artifact, &part.file).await?;
        Ok(Some(part))
    }

    async fn record(&self, image: &str, set: ArtifactSet<ImageFacts>) -> Result<(), ArtifactError> {
        let source = self.source.as_ref().map(|source| source.name().to_owned());
        let (home, name) = (self.home.clone(), image.to_owned());
        let file = self.image_file(image);
        let described = Described { source, set };
        let recorded = blocking(move || {
            let _lock = home.lock(built::LOCK)?;
            write(&described_at(&home, &name), &described)?;
            write(&file, &described.set.facts.image)
        });
        Ok(recorded.await?)
    }

    async fn describe(&self, image: &str) -> Result<ArtifactSet<ImageFacts>, ArtifactError> {
        let (home, known, name) = (self.home.clone(), Arc::clone(&self.known), image.to_owned());
        let set = blocking(move || {
            let Some(image) = template::manifest(&home, &name)? else {
                return Err(ImageError::UnknownTemplate(name));
            };
            let files = files_of(&home, &image)?;
            let paths = files
                .into_iter()
                .map(|file| (home.root().join(&file), file));
            let files = describe_all(&known, &paths.collect::<Vec<_>>())?;
            Ok(ArtifactSet::new(ImageFacts { image }, files))
        });
        Ok(set.await?)
    }

    /// What is known of an image that was published or fetched.
    pub(super) fn described(&self, image: &str) -> Result<Option<Arc<Described>>, ImageError> {
        let path = described_at(&self.home, image);
        let stamp = match Stamp::of(&path) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io("read", &path)(error)),
        };
        let all = || self.described.lock().expect("no panic while it is held");
        if let Some((then, described)) = all().get(image)
            && *then == stamp
        {
            return Ok(Some(Arc::clone(described)));
        }
        let Some(described) = read_json::<Described>(&path)? else {
            return Ok(None);
        };
        let described = Arc::new(described);
        all().insert(image.to_owned(), (stamp, Arc::clone(&described)));
        Ok(Some(described))
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.uses.lock().expect("no panic while it is held")
    }

    pub(super) fn image_file(&self, image: &str) -> PathBuf {
        self.home.rootfs().join(format!("{image}.json"))
    }
}

/// Where an image is described in a source.
pub(super) fn image_at(image: &str) -> String {
    format!("images/{image}/image.json")
}

/// Where an image is described in a home.
pub(crate) fn described_at(home: &Home, image: &str) -> PathBuf {
    home.rootfs().join(format!(".artifacts-{image}.json"))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), ImageError> {
    built::write(path, &to_json(value))
}

fn describe_all(known: &Known, paths: &[(PathBuf, String)]) -> Result<Vec<Artifact>, ImageError> {
    let described = paths.iter().map(|(path, name)| {
        let described = known.describe(path, name);
        let described = described.map_err(ImageError::io("read", path))?;
        Ok(Arc::unwrap_or_clone(described))
    });
    described.collect()
}

/// Every file an image brings, relative to the home, sorted. With a kernel
/// come its modules: the next initramfs is made of them.
fn files_of(home: &Home, image: &Manifest) -> Result<Vec<String>, ImageError> {
    let mut files = Vec::new();
    for file in image.files() {
        if file.starts_with("kernels")
            && let Some(directory) = file.parent()
        {
            let path = home.root().join(directory);
            let failed = || ImageError::io("list", &path);
            for entry in fs::read_dir(&path).map_err(failed())? {
                files.push(directory.join(entry.map_err(failed())?.file_name()));
            }
        } else {
            files.push(file);
        }
    }
    let mut files: Vec<_> = files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Whether a set is this image, and nothing but it.
fn check(set: &ArtifactSet<ImageFacts>, name: &str) -> Result<(), ArtifactError> {
    let unusable = |why: &str| {
        Err(ArtifactError::Unusable {
            what: image_at(name),
            why: why.to_owned(),
        })
    };
    let image = &set.facts.image;
    if image.name != name {
        return unusable("it has another name");
    }
    if built::is_built(name) && built::name_of(image) != name {
        return unusable("its name is not that of its content");
    }
    if image.boots_like() == Some(name) {
        return unusable("it boots like itself");
    }
    if set.files.iter().any(|file| home_path(&file.path).is_none()) {
        return unusable("it has a file that belongs to no image");
    }
    if !set.files.is_sorted_by(|one, next| one.path < next.path) {
        return unusable("its files are not in order, each once");
    }
    let has = |wanted: &PathBuf| set.files.iter().any(|file| Path::new(&file.path) == wanted);
    if !image.files().iter().all(has) {
        return unusable("it lacks a file that it boots");
    }
    Ok(())
}

/// A file on its way, this process's alone.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    path: PathBuf,
}

impl Part {
    /// Waits for whoever fetches it now. Blocks.
    fn open(path: PathBuf) -> Result<Self, ImageError> {
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(ImageError::io("create", &path))?;
            file.lock().map_err(ImageError::io("lock", &path))?;
            // Who had it may have given it its final name, or removed it.
            if inode(&file) == File::open(&path).ok().and_then(|file| inode(&file)) {
                let file = Arc::new(file);
                return Ok(Self { file, path });
            }
        }
    }

    fn protect(&self) -> Result<(), ImageError> {
        let protected = fs::Permissions::from_mode(0o444);
        let protected = self.file.set_permissions(protected);
        protected.map_err(ImageError::io("protect", &self.path))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Only if it has no other name by now; what stays is swept.
        let ours = File::open(&self.path).ok().and_then(|file| inode(&file));
        if ours.is_some() && ours == inode(&self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(file: &File) -> Option<(u64, u64)> {
    let facts = file.metadata().ok()?;
    Some((facts.dev(), facts.ino()))
}

/// Gives fetched files their names. A kernel's appear at once, as it does when
/// it is made here.
fn put_in_place(
    home: &Home,
    known: &Known,
    parts: Vec<(Part, Artifact, PathBuf)>,
) -> Result<(), ImageError> {
    let mut kernels: HashMap<PathBuf, Vec<(Part, PathBuf)>> = HashMap::new();
    let mut learnt = Vec::new();
    for (part, artifact, target) in parts {
        let directory = target.parent().map(Path::to_owned).unwrap_or_default();
        learnt.push((artifact, target.clone()));
        part.protect()?;
        if directory.is_dir() {
            fs::rename(&part.path, &target).map_err(ImageError::io("rename", &part.path))?;
        } else {
            kernels.entry(directory).or_default().push((part, target));
        }
    }
    for (directory, files) in kernels {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let workshop = home.workshop("kernels", &Silent)?;
        let draft = workshop.temporary_dir(&name)?;
        for (part, target) in &files {
            let name = draft.join(target.file_name().unwrap_or_default());
            // Under its temporary name as well, so that who waits for it waits
            // until all of the kernel is there.
            fs::hard_link(&part.path, &name).map_err(ImageError::io("link", &part.path))?;
        }
        workshop.publish(&draft, &name)?;
    }
    for (artifact, target) in learnt {
        let learnt = known.learn(&target, &artifact);
        learnt.map_err(ImageError::io("read", &target))?;
    }
    Ok(())
}

/// Removes files that nobody fetches any more.
fn sweep(directory: &Path) -> Result<(), ImageError> {
    let entries = fs::read_dir(directory).map_err(ImageError::io("list", directory))?;
    for entry in entries {
        let path = entry.map_err(ImageError::io("list", directory))?.path();
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if file.try_lock().is_ok() {
            fs::remove_file(&path).map_err(ImageError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// One at a time, per name.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn enter(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().expect("no panic while it is held");
            turns.retain(|_, turn| turn.strong_count() > 0);
            match turns.get(name).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    turns.insert(name.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}
