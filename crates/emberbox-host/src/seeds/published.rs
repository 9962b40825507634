//! Seeds in an artifact source: sent after a build, fetched where they fit.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};

use emberbox_core::Shape;
use emberbox_image::{ArtifactError, ArtifactSet, Artifacts, GuestImages, Home, Sent};
use emberbox_runtime::EngineDescription;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::GENERATION;
use crate::artifacts::cpu_features;

/// In a seed's directory: what its files are.
const DESCRIBED: &str = "artifacts.json";

/// What a seed's files are called, sorted.
const FILES: [&str; 3] = ["memory", "scratch.ext4", "state"];

/// Published seeds that are looked at to say why none of them fits.
const TOLD: usize = 3;

/// Everything a seed depends on. Two hosts share one only if all is equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeedFacts {
    /// Of the form of its files.
    format: u32,
    /// Over kernel, agent and layers.
    images: String,
    kernel: String,
    initramfs: String,
    engine: String,
    version: String,
    accelerator: String,
    /// What else the engine depends on.
    compatibility: String,
    /// What the guest sees of the processor; none where that is emulated.
    cpu: Option<String>,
    shape: Shape,
}

impl SeedFacts {
    /// Of a seed that this engine would take on this machine.
    pub(super) fn new(
        home: &Home,
        images: &GuestImages,
        engine: &EngineDescription,
        shape: Shape,
    ) -> Self {
        let inside = |path: &Path| {
            let inside = path.strip_prefix(home.root()).unwrap_or(path);
            inside.to_string_lossy().into_owned()
        };
        Self {
            format: GENERATION,
            images: images.digest.clone(),
            kernel: inside(&images.kernel),
            initramfs: inside(&images.initramfs),
            engine: engine.name.to_owned(),
            version: engine.version.clone(),
            accelerator: engine.accelerator.to_owned(),
            compatibility: engine.snapshot_compatibility.clone(),
            cpu: cpu_features(engine.accelerator),
            shape,
        }
    }

    fn at(&self, image: &str) -> String {
        let text = serde_json::to_vec(self).expect("plain strings and numbers");
        let digest = Sha256::digest(text);
        let key: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}/{key}.json", below(image))
    }

    /// In what another one differs.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("format", self.format == other.format),
            ("kernel", self.kernel == other.kernel),
            ("agent", self.initramfs == other.initramfs),
            ("images", self.images == other.images),
            ("engine", self.engine == other.engine),
            ("version", self.version == other.version),
            ("accelerator", self.accelerator == other.accelerator),
            ("CPU features", self.cpu == other.cpu),
            ("machine", self.compatibility == other.compatibility),
            ("shape", self.shape == other.shape),
        ];
        let differ = same.into_iter().filter(|(_, same)| !same);
        differ.map(|(what, _)| what).collect()
    }
}

/// The seeds that were published or fetched.
pub(super) struct PublishedSeeds {
    artifacts: Arc<Artifacts>,
    /// What the source was asked for.
    looked: Mutex<HashSet<String>>,
}

impl PublishedSeeds {
    pub(super) fn new(artifacts: Arc<Artifacts>) -> Self {
        Self {
            artifacts,
            looked: Mutex::default(),
        }
    }

    /// Describes the seed in a directory, and publishes it if there is a
    /// source.
    pub(super) async fn publish(
        &self,
        image: &str,
        facts: SeedFacts,
        dir: &Path,
    ) -> Result<Sent, ArtifactError> {
        let files = self.artifacts.describe_files(dir, &FILES).await?;
        let at = facts.at(image);
        let set = ArtifactSet::new(facts, files);
        let mut sent = Sent::default();
        if let Some(source) = self.artifacts.source() {
            sent = source.publish(&at, &set, dir).await?;
        }
        // Without it the seed is as good, and cannot be checked.
        if let Err(error) = describe(dir, &set) {
            tracing::warn!(%error, "a seed cannot be described");
        }
        Ok(sent)
    }

    /// Whether a seed is as it was described, if it was.
    pub(super) async fn is_sound(&self, dir: &Path) -> Result<bool, ArtifactError> {
        let Ok(text) = fs::read(dir.join(DESCRIBED)) else {
            return Ok(true);
        };
        match serde_json::from_slice::<ArtifactSet<SeedFacts>>(&text) {
            Ok(set) => self.artifacts.are_as_described(dir, set.files).await,
            Err(_changed) => Ok(false),
        }
    }

    /// Whether the source was not asked for this seed before: it is asked once,
    /// not with every create until there is a seed.
    pub(super) fn is_first_look(&self, image: &str, facts: &SeedFacts) -> bool {
        let mut looked = self.looked.lock().expect("no panic while held");
        self.artifacts.source().is_some() && looked.insert(facts.at(image))
    }

    /// The source may be asked again.
    pub(super) fn look_again(&self, image: &str, facts: &SeedFacts) {
        let mut looked = self.looked.lock().expect("no panic while held");
        looked.remove(&facts.at(image));
    }

    /// Fetches a seed that these facts say can be restored into an empty
    /// directory; `false` if there is none, and the log says what others lack.
    pub(super) async fn fetch(
        &self,
        image: &str,
        facts: &SeedFacts,
        dir: &Path,
    ) -> Result<bool, ArtifactError> {
        let Some(source) = self.artifacts.source() else {
            return Ok(false);
        };
        let at = facts.at(image);
        let Some(set) = source.set::<SeedFacts>(&at).await? else {
            for (other, differ) in self.others(image, facts).await? {
                let (engine, version) = (&other.engine, &other.version);
                let differ = differ.join(", ");
                tracing::info!(
                    image,
                    engine,
                    version,
                    differ,
                    "a published seed does not fit this host, which takes its own"
                );
            }
            return Ok(false);
        };
        if set.facts != *facts {
            let differences = facts.differences(&set.facts).join(", ");
            let (what, why) = (at, format!("it is of another {differences}"));
            return Err(ArtifactError::Unusable { what, why });
        }
        source.fetch_all(&set, &FILES, dir).await?;
        let put = || {
            for file in FILES {
                seal(&dir.join(file))?;
            }
            describe(dir, &set)
        };
        put().map_err(|error| ArtifactError::Unusable {
            what: at,
            why: format!("it cannot be put in place: {error}"),
        })?;
        Ok(true)
    }

    /// Published seeds of an image, and in what they differ.
    async fn others(
        &self,
        image: &str,
        facts: &SeedFacts,
    ) -> Result<Vec<(SeedFacts, Vec<&'static str>)>, ArtifactError> {
        let Some(source) = self.artifacts.source() else {
            return Ok(Vec::new());
        };
        let mut others = Vec::new();
        for at in source.list(&below(image)).await?.iter().take(TOLD) {
            if let Some(set) = source.set::<SeedFacts>(at).await? {
                let differ = facts.differences(&set.facts);
                others.push((set.facts, differ));
            }
        }
        Ok(others)
    }
}

/// Where the seeds of an image are in a source.
fn below(image: &str) -> String {
    format!("images/{image}/seeds")
}

fn describe(dir: &Path, set: &ArtifactSet<SeedFacts>) -> io::Result<()> {
    let temporary = dir.join("artifacts.new");
    fs::write(&temporary, serde_json::to_vec(set)?)?;
    fs::rename(temporary, dir.join(DESCRIBED))
}

/// A seed belongs to root and is never written again.
fn seal(file: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        chown(file, Some(0), Some(0))?;
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o400))
}

#[cfg(test)]
mod tests;
