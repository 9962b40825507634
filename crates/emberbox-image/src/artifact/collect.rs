//! Removing: descriptions that nobody wants, and the chunks that nothing
//! describes any more.
//!
//! Hosts that share a source do not speak to each other, so they say in the
//! source itself what they do. Who publishes first says of which chunks, then
//! waits while somebody removes; who removes first says so, then looks which
//! chunks are wanted. Either sees the other.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use object_store::ObjectMeta;
use serde::de::IgnoredAny;

use super::publish::PUBLISHING;
use super::source::ArtifactSource;
use super::{ArtifactError, is_digest};
use crate::error::ImageError;
use crate::registry::blocking;

/// There while somebody removes chunks.
pub(super) const COLLECTING: &str = "collecting";

/// How long removing goes on at most, and how old a [`COLLECTING`] is that was
/// left by somebody who died: nobody waits longer for it.
pub(super) const MOST: Duration = Duration::from_secs(600);

/// Time in which to be done: some is left for the last request.
const TIME: Duration = Duration::from_secs(400);

/// How old is what somebody left who died while publishing: no transfer takes
/// so long.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Chunks removed at a time: as many as S3 takes in one request.
const BATCH: usize = 1000;

impl ArtifactSource {
    /// Removes everything that is described below `at`, and the chunks that
    /// only that was made of. Idempotent.
    pub async fn withdraw(&self, at: &str) -> Result<(), ArtifactError> {
        let mut gone = self.list(at).await?;
        gone.extend(self.list(&format!("{PUBLISHING}/{at}")).await?);
        if gone.is_empty() {
            return Ok(());
        }
        self.delete(gone).await?;
        self.collect().await
    }

    /// Removes the chunks that nothing describes. Somebody else may be at it:
    /// then it is left to them and to the next time.
    pub async fn collect(&self) -> Result<(), ArtifactError> {
        if let Some(other) = self.head(COLLECTING).await?
            && age(&other) < MOST
        {
            return Ok(());
        }
        self.put(COLLECTING, bytes::Bytes::new()).await?;
        let collected = tokio::time::timeout(TIME, self.remove_unwanted()).await;
        let done = self.delete(vec![COLLECTING.to_owned()]).await;
        // What was not reached is reached the next time.
        collected.unwrap_or(Ok(()))?;
        done
    }

    async fn remove_unwanted(&self) -> Result<(), ArtifactError> {
        let mut wanted = HashSet::new();
        let publishing = self.metas(PUBLISHING).await?;
        let (dead, alive): (Vec<_>, Vec<_>) =
            publishing.iter().partition(|meta| age(meta) > ABANDONED);
        self.delete(dead.into_iter().map(name).collect()).await?;
        // What is not on its way any more when it is read is published by then:
        // so this first.
        self.add_chunks(&mut wanted, alive.into_iter()).await?;
        let published = self.metas("images").await?;
        self.add_chunks(&mut wanted, published.iter()).await?;
        let chunks = self.list("chunks").await?;
        let unwanted = chunks.into_iter().filter(|chunk| {
            let digest = chunk.rsplit('/').next().unwrap_or_default();
            is_digest(digest) && !wanted.contains(digest)
        });
        let unwanted: Vec<_> = unwanted.collect();
        for batch in unwanted.chunks(BATCH) {
            self.delete(batch.to_vec()).await?;
        }
        let source = self.clone();
        let swept = blocking(move || {
            let swept = source.sweep(ABANDONED);
            swept.map_err(|source| ImageError::Io {
                doing: "sweep the artifact source".to_owned(),
                source,
            })
        });
        Ok(swept.await?)
    }

    async fn add_chunks(
        &self,
        wanted: &mut HashSet<String>,
        described: impl Iterator<Item = &ObjectMeta>,
    ) -> Result<(), ArtifactError> {
        for meta in described {
            // One that is removed at this moment wants nothing.
            if let Some(set) = self.set::<IgnoredAny>(&name(meta)).await? {
                let files = set.files.into_iter();
                wanted.extend(files.flat_map(|file| file.chunks).flatten());
            }
        }
        Ok(())
    }
}

fn age(meta: &ObjectMeta) -> Duration {
    let age = SystemTime::from(meta.last_modified).elapsed();
    age.unwrap_or_default()
}

fn name(meta: &ObjectMeta) -> String {
    meta.location.to_string()
}
