//! Fetching: chunk by chunk, each looked at, then the whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::source::{ArtifactSource, chunk_at};
use super::{Artifact, ArtifactError, ArtifactSet, CONCURRENCY, file};
use crate::error::ImageError;
use crate::registry::blocking;

impl ArtifactSource {
    /// Fetches a file into `to`, whose content is replaced. It is as described,
    /// and on the platter, when this returns; else what it holds is of no use.
    pub async fn fetch(&self, artifact: &Artifact, to: &Arc<File>) -> Result<(), ArtifactError> {
        let (target, bytes) = (Arc::clone(to), artifact.bytes);
        let emptied = blocking(move || {
            let emptied = target.set_len(0).and_then(|()| target.set_len(bytes));
            emptied.map_err(writing)
        });
        emptied.await?;
        let chunks = artifact.data().map(|(index, name)| {
            let (to, place, name) = (Arc::clone(to), artifact.place(index), name.to_owned());
            self.fetch_chunk(name, place, to)
        });
        let chunks: Vec<_> = chunks.collect();
        let mut fetched = stream::iter(chunks).buffer_unordered(CONCURRENCY);
        while fetched.try_next().await?.is_some() {}
        let (target, sha256) = (Arc::clone(to), artifact.sha256.clone());
        let whole = blocking(move || {
            target.sync_all().map_err(writing)?;
            file::has_digest(&target, bytes, &sha256).map_err(writing)
        });
        if whole.await? {
            Ok(())
        } else {
            Err(ArtifactError::Damaged(artifact.path.clone()))
        }
    }

    async fn fetch_chunk(
        &self,
        name: String,
        (offset, length): (u64, usize),
        to: Arc<File>,
    ) -> Result<(), ArtifactError> {
        let at = chunk_at(&name);
        let packed = self.get(&at, file::most_packed(length)).await?;
        let packed = packed.ok_or_else(|| ArtifactError::Missing(at.clone()))?;
        let written = blocking(move || {
            let Some(chunk) = file::unpacked(&packed, length, &name) else {
                return Ok(false);
            };
            to.write_all_at(&chunk, offset).map_err(writing)?;
            Ok(true)
        });
        if written.await? {
            Ok(())
        } else {
            Err(ArtifactError::Damaged(at))
        }
    }

    /// Fetches the files of a set into a directory that is its caller's alone.
    pub async fn fetch_all<F>(
        &self,
        set: &ArtifactSet<F>,
        names: &[&str],
        directory: &Path,
    ) -> Result<(), ArtifactError> {
        let expected = set.files.iter().map(|file| file.path.as_str());
        if !expected.eq(names.iter().copied()) {
            return Err(ArtifactError::Unusable {
                what: directory.display().to_string(),
                why: "it has other files than it should".to_owned(),
            });
        }
        for artifact in &set.files {
            let path = directory.join(&artifact.path);
            let file = file::create(&path, artifact.bytes);
            let file = file.map_err(ImageError::io("create", &path))?;
            self.fetch(artifact, &Arc::new(file)).await?;
        }
        Ok(())
    }

    /// Whether everything that a set is made of is in the source.
    pub(super) async fn has<F>(&self, set: &ArtifactSet<F>) -> Result<bool, ArtifactError> {
        let chunks = set.files.iter().flat_map(Artifact::data);
        let looks: Vec<_> = chunks.map(|(_, name)| self.has_chunk(name)).collect();
        let mut found = stream::iter(looks).buffer_unordered(CONCURRENCY);
        while let Some(there) = found.try_next().await? {
            if !there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn has_chunk(&self, name: &str) -> Result<bool, ArtifactError> {
        Ok(self.head(&chunk_at(name)).await?.is_some())
    }
}

fn writing(source: io::Error) -> ImageError {
    ImageError::Io {
        doing: "write an artifact".to_owned(),
        source,
    }
}
