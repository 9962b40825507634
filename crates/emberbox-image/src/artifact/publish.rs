//! Sending: chunks that the source lacks, then the description.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::sleep;

use super::source::{ArtifactSource, chunk_at};
use super::{Artifact, ArtifactError, ArtifactSet, CONCURRENCY, collect, file};
use crate::error::ImageError;
use crate::registry::blocking;

/// Between two looks whether chunks are still being removed.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Begins the names of what is on its way.
pub(super) const PUBLISHING: &str = "publishing";

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Chunks that the files have, but for zeros.
    pub chunks: u64,
    /// Chunks that the source did not have.
    pub new_chunks: u64,
    /// Bytes of those, compressed.
    pub sent_bytes: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.new_chunks += other.new_chunks;
        self.sent_bytes += other.sent_bytes;
    }
}

impl ArtifactSource {
    /// Publishes files, which are below `root`, under `at`. What the source has
    /// is not sent again, so one that broke off goes on where it did.
    /// Cancel-safe: nothing is described before all of it is there.
    pub async fn publish<F: Serialize + Sync>(
        &self,
        at: &str,
        set: &ArtifactSet<F>,
        root: &Path,
    ) -> Result<Sent, ArtifactError> {
        let wanted = format!("{PUBLISHING}/{at}");
        // From here on nobody removes these chunks who has not begun yet.
        self.put_json(&wanted, set).await?;
        self.nobody_collects().await?;
        let mut sent = Sent::default();
        for artifact in &set.files {
            sent += self.send(artifact, &root.join(&artifact.path)).await?;
        }
        self.put_json(at, set).await?;
        self.delete(vec![wanted]).await?;
        Ok(sent)
    }

    /// Waits until nobody removes chunks who may have looked before.
    async fn nobody_collects(&self) -> Result<(), ArtifactError> {
        while let Some(meta) = self.head(collect::COLLECTING).await? {
            let since = SystemTime::from(meta.last_modified);
            if since.elapsed().unwrap_or_default() > collect::MOST {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn send(&self, artifact: &Artifact, path: &Path) -> Result<Sent, ArtifactError> {
        let from = File::open(path).map_err(ImageError::io("open", path))?;
        let from = Arc::new(from);
        let chunks = artifact.data().map(|(index, name)| {
            let (from, place, name) = (Arc::clone(&from), artifact.place(index), name.to_owned());
            async move {
                let at = chunk_at(&name);
                if self.head(&at).await?.is_some() {
                    return Ok(None);
                }
                let packed = blocking(move || {
                    let packed = file::packed(&from, place, &name);
                    packed.map_err(|source| ImageError::Io {
                        doing: "read a chunk".to_owned(),
                        source,
                    })
                });
                let packed = packed.await?;
                let packed = packed.ok_or_else(|| ArtifactError::Damaged(artifact.path.clone()))?;
                let bytes = packed.len() as u64;
                self.put(&at, packed.into()).await?;
                Ok(Some(bytes))
            }
        });
        // Collected first: the stream must not borrow from a closure.
        let chunks: Vec<_> = chunks.collect();
        let results = stream::iter(chunks).buffer_unordered(CONCURRENCY);
        let sent = results.try_fold(Sent::default(), async |mut sent, bytes| {
            sent.chunks += 1;
            if let Some(bytes) = bytes {
                sent.new_chunks += 1;
                sent.sent_bytes += bytes;
            }
            Ok::<_, ArtifactError>(sent)
        });
        sent.await
    }
}
