//! Where artifacts are: a directory, or a bucket of an S3-compatible service.

use std::fs;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ArtifactError, ArtifactSet};
use crate::error::ImageError;
use crate::record::to_json;

/// Largest description. One of an image of 16 GiB takes 1.2 MB.
const MAX_DESCRIPTION: u64 = 16 << 20;

/// How long a source may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);

/// How long one request may take. None carries more than some megabytes.
const REQUEST: Duration = Duration::from_secs(60);

/// Times a request that failed is sent again, and for how long: a service that
/// restarts is waited for, and one that is gone is told about soon.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(30);

/// How an S3-compatible service is reached. What is not set is taken from the
/// environment (`AWS_ACCESS_KEY_ID` and so on) or from the machine's role.
#[derive(Clone, Default)]
pub struct S3Access {
    /// The service's URL; Amazon's when absent. `http://` is taken as it is
    /// written.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Access key and secret key.
    pub keys: Option<(String, String)>,
}

/// Where artifacts are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArtifactSource {
    store: Arc<dyn ObjectStore>,
    name: String,
    directory: Option<PathBuf>,
}

impl ArtifactSource {
    /// A directory, made if it is not there.
    pub fn directory(path: &FilePath) -> Result<Self, ArtifactError> {
        fs::create_dir_all(path).map_err(ImageError::io("create", path))?;
        let store = LocalFileSystem::new_with_prefix(path);
        let store = store.map_err(|error| ArtifactError::source("open", error))?;
        Ok(Self {
            // What was published counts as safe.
            store: Arc::new(store.with_fsync(true)),
            name: path.display().to_string(),
            directory: Some(path.to_owned()),
        })
    }

    /// Below a prefix of a bucket: `s3://BUCKET[/PREFIX]`. Asks nobody yet.
    pub fn s3(url: &str, access: &S3Access) -> Result<Self, ArtifactError> {
        let unusable = || ArtifactError::Setting(format!("{url} is not s3://BUCKET[/PREFIX]"));
        let rest = url.strip_prefix("s3://").ok_or_else(unusable)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(unusable());
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|_bad| unusable())?;
        crate::registry::trust();
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout(REQUEST);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_client_options(client)
            .with_retry(RetryConfig {
                max_retries: RETRIES,
                retry_timeout: RETRY_FOR,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &access.endpoint {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain);
        }
        if let Some(region) = &access.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &access.keys {
            builder = builder
                .with_access_key_id(id)
                .with_secret_access_key(secret);
        }
        let store = builder
            .build()
            .map_err(|error| ArtifactError::Setting(format!("{url} cannot be used: {error}")))?;
        let store: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
            Arc::new(store)
        } else {
            Arc::new(PrefixStore::new(store, prefix))
        };
        Ok(Self {
            store,
            name: url.to_owned(),
            directory: None,
        })
    }

    /// Its path or URL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is described under `at`, if anything is.
    pub async fn set<F: DeserializeOwned>(
        &self,
        at: &str,
    ) -> Result<Option<ArtifactSet<F>>, ArtifactError> {
        let Some(text) = self.get(at, MAX_DESCRIPTION).await? else {
            return Ok(None);
        };
        let set: ArtifactSet<F> =
            serde_json::from_slice(&text).map_err(|error| ArtifactError::Unusable {
                what: at.to_owned(),
                why: error.to_string(),
            })?;
        set.check(at)?;
        Ok(Some(set))
    }

    /// The names of the objects below `at`.
    pub async fn list(&self, at: &str) -> Result<Vec<String>, ArtifactError> {
        let found = self.metas(at).await?;
        let names = found.into_iter().map(|meta| meta.location.to_string());
        Ok(names.collect())
    }

    pub(super) async fn metas(&self, at: &str) -> Result<Vec<ObjectMeta>, ArtifactError> {
        let prefix = Path::from(at);
        let found = self.store.list(Some(&prefix)).try_collect().await;
        found.map_err(|error| ArtifactError::source(format!("list {at}"), error))
    }

    pub(super) async fn put_json(
        &self,
        at: &str,
        value: &impl Serialize,
    ) -> Result<(), ArtifactError> {
        self.put(at, to_json(value).into()).await
    }

    pub(super) async fn put(&self, at: &str, bytes: Bytes) -> Result<(), ArtifactError> {
        let put = self.store.put(&Path::from(at), bytes.into()).await;
        put.map(drop)
            .map_err(|error| ArtifactError::source(format!("take {at}"), error))
    }

    /// An object of at most so many bytes.
    pub(super) async fn get(&self, at: &str, most: u64) -> Result<Option<Bytes>, ArtifactError> {
        let failed = |error| ArtifactError::source(format!("give {at}"), error);
        let found = match self.store.get(&Path::from(at)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let too_large = || ArtifactError::Unusable {
            what: at.to_owned(),
            why: format!("it is larger than {most} bytes"),
        };
        if found.meta.size > most {
            return Err(too_large());
        }
        let mut stream = found.into_stream();
        let mut bytes = Vec::new();
        while let Some(part) = stream.next().await {
            bytes.extend_from_slice(&part.map_err(failed)?);
            if bytes.len() as u64 > most {
                return Err(too_large());
            }
        }
        Ok(Some(bytes.into()))
    }

    /// What is known of an object, if it is there.
    pub(super) async fn head(&self, at: &str) -> Result<Option<ObjectMeta>, ArtifactError> {
        match self.store.head(&Path::from(at)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(ArtifactError::source(format!("look for {at}"), error)),
        }
    }

    /// Removes objects. Idempotent.
    pub(super) async fn delete(&self, names: Vec<String>) -> Result<(), ArtifactError> {
        let paths = names.into_iter().map(|name| Ok(Path::from(name)));
        let paths = futures_util::stream::iter(paths).boxed();
        let mut deleted = self.store.delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(ArtifactError::source("remove objects", error)),
            }
        }
        Ok(())
    }

    /// Removes what writers of a directory left that were killed. Blocks.
    pub(super) fn sweep(&self, older_than: Duration) -> io::Result<()> {
        let Some(root) = &self.directory else {
            return Ok(());
        };
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    directories.push(entry.path());
                    continue;
                }
                let name = entry.file_name();
                // So object_store names what it writes.
                let staged = name.to_string_lossy().contains('#');
                let age = metadata.modified()?.elapsed().unwrap_or_default();
                if staged && age > older_than {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// Where a chunk is.
pub(super) fn chunk_at(digest: &str) -> String {
    format!("chunks/{}/{digest}", &digest[..2])
}
