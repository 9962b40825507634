//! What a host publishes, and what it fetches before it boots it.
//!
//! ```text
//! build ─▶ certified ─▶ image, seed ─▶ source        distributing
//! create, build from ─▶ image whole? ─▶ seed whole? ─▶ restore
//!                          └─ source ◀──┘
//! ```
//!
//! Invariants: no image and no seed that was published is used before its
//! files were found to be as described; what this host cannot restore is not
//! fetched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use emberbox_core::Shape;
use emberbox_image::{
    ArtifactError, ArtifactSource, Artifacts, GuestImages, HeldImage, Home, S3Access, Sent,
};
use secrecy::{ExposeSecret, SecretString};

use crate::Host;
use crate::actor::{Parts, report};
use crate::host::HostError;

/// Where images and seeds are published, and how much of them is kept here.
#[derive(Debug, Clone, Default)]
pub struct ArtifactsConfig {
    /// Where; nowhere when absent, and images stay on the host that built them.
    pub source: Option<SourceConfig>,
    /// Disk that images and seeds may take, in bytes. What is over goes if it
    /// can be fetched again.
    pub max_bytes: Option<u64>,
}

/// An artifact source.
#[derive(Debug, Clone)]
pub enum SourceConfig {
    /// A directory: a disk of its own, or one that hosts share.
    Directory(PathBuf),
    /// A bucket of an S3-compatible service.
    S3 {
        /// `s3://BUCKET[/PREFIX]`.
        url: String,
        /// The service; Amazon's when absent.
        endpoint: Option<String>,
        /// The region.
        region: Option<String>,
        /// Access key and secret key; from the environment when absent.
        keys: Option<(String, SecretString)>,
    },
}

impl ArtifactsConfig {
    pub(crate) fn open(&self, home: Home) -> Result<Artifacts, HostError> {
        let source = match &self.source {
            None => None,
            Some(SourceConfig::Directory(path)) => Some(ArtifactSource::directory(path)?),
            Some(SourceConfig::S3 {
                url,
                endpoint,
                region,
                keys,
            }) => {
                let keys = keys.as_ref();
                let access = S3Access {
                    endpoint: endpoint.clone(),
                    region: region.clone(),
                    keys: keys.map(|(id, secret)| (id.clone(), secret.expose_secret().to_owned())),
                };
                Some(ArtifactSource::s3(url, &access)?)
            }
        };
        Artifacts::open(home, source, self.max_bytes).map_err(HostError::start)
    }
}

impl Host {
    /// An image that can be booted now, and its seed if there is one that can
    /// be restored: fetched where they are not here or are damaged. It is not
    /// evicted while what is given is there.
    pub(crate) async fn ready(
        &self,
        image: &str,
        shape: Shape,
    ) -> Result<(GuestImages, HeldImage), HostError> {
        let was_here = self.has_image(image);
        let held = self.parts.artifacts.ensure(image).await?;
        let held = held.ok_or_else(|| HostError::UnknownImage(image.to_owned()))?;
        let images = self.images(image)?;
        self.parts.seeds.make_ready(&images, shape).await;
        if !was_here {
            let parts = Arc::clone(&self.parts);
            tokio::spawn(async move { parts.evict().await });
        }
        Ok((images, held))
    }

    /// Describes an image and its seed of this shape, and sends both to the
    /// source if there is one.
    pub(crate) async fn publish(
        &self,
        images: &GuestImages,
        shape: Shape,
    ) -> Result<Sent, ArtifactError> {
        let mut sent = self.parts.artifacts.publish(&images.template).await?;
        sent += self.parts.seeds.publish(images, shape).await?;
        Ok(sent)
    }

    /// Evicts images until what is here fits the budget.
    pub(crate) async fn keep_to_budget(&self) {
        self.parts.evict().await;
    }
}

impl Parts {
    /// Removes what the source has of an image; then what was only that.
    pub(crate) async fn withdraw(&self, image: &str) -> Result<(), ArtifactError> {
        match self.artifacts.source() {
            Some(source) => source.withdraw(&format!("images/{image}")).await,
            None => Ok(()),
        }
    }

    async fn evict(&self) {
        if let Err(error) = self.try_evict().await {
            tracing::warn!(error = report(&error), "images could not be evicted");
        }
    }

    async fn try_evict(&self) -> Result<(), HostError> {
        let in_use = self.layers_in_use()?;
        let remove = |image: &str| self.remove_image(image);
        self.artifacts.evict(&in_use, remove).await.map(drop)
    }
}

/// What guests see of this machine's processor, if they see it as it is: a
/// seed that was taken on another cannot be restored.
pub(crate) fn cpu_features(accelerator: &str) -> Option<String> {
    (accelerator != "tcg").then(|| {
        let text = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
        features(&text)
    })
}

/// Maker, model and features of the first processor in `/proc/cpuinfo`'s form.
fn features(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.trim() == name);
        found.map_or("?", |(_, value)| value.trim())
    };
    let mut flags: Vec<_> = field("flags").split_whitespace().collect();
    flags.sort_unstable();
    let model = ["vendor_id", "cpu family", "model", "stepping"].map(field);
    format!("{}: {}", model.join(" "), flags.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_told_apart_by_model_and_features() {
        let one = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
                   stepping\t: 7\nflags\t\t: sse avx fpu\n\nprocessor\t: 1\nflags\t: none\n";
        assert_eq!(features(one), "GenuineIntel 6 85 7: avx fpu sse");
        assert_eq!(
            features(&one.replace("sse avx", "avx sse")),
            features(one),
            "their order is nothing"
        );
        assert_ne!(features(&one.replace("sse avx", "sse")), features(one));
        assert_eq!(cpu_features("tcg"), None);
    }
}
