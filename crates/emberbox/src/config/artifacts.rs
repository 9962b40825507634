//! Where images of templates are published, and how much of them is kept.

use std::fs;
use std::path::{Path, PathBuf};

use emberbox_host::{ArtifactsConfig, SourceConfig};
use secrecy::SecretString;
use serde::Deserialize;

use super::{ConfigError, not_zero};

const SOURCE: &str = "artifacts.source";

/// What an operator may set of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Artifacts {
    /// An absolute path, or `s3://BUCKET[/PREFIX]`.
    source: Option<String>,
    /// An S3-compatible service; Amazon's when absent.
    endpoint: Option<String>,
    region: Option<String>,
    access_key_id: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    /// Disk that images and seeds may take if what is over can be fetched
    /// again.
    max_disk_gib: Option<u32>,
}

impl Artifacts {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, problem: &str| {
            let problem = problem.to_owned();
            Err(ConfigError::Value { key, problem })
        };
        let is_bucket = match self.source.as_deref() {
            None => false,
            Some(url) if url.starts_with("s3://") => {
                if bucket(url).is_empty() {
                    return wrong(SOURCE, "must name a bucket: s3://BUCKET[/PREFIX]");
                }
                true
            }
            Some(path) if Path::new(path).is_absolute() => false,
            Some(_) => {
                let problem = "must be an absolute path or s3://BUCKET[/PREFIX]";
                return wrong(SOURCE, problem);
            }
        };
        for (key, is_set) in [
            ("artifacts.endpoint", self.endpoint.is_some()),
            ("artifacts.region", self.region.is_some()),
            ("artifacts.access_key_id", self.access_key_id.is_some()),
            (
                "artifacts.secret_access_key_file",
                self.secret_access_key_file.is_some(),
            ),
        ] {
            if is_set && !is_bucket {
                return wrong(key, "belongs to a source that is s3://BUCKET[/PREFIX]");
            }
        }
        if let Some(endpoint) = &self.endpoint
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            return wrong("artifacts.endpoint", "must be an http:// or https:// URL");
        }
        if self.access_key_id.is_some() != self.secret_access_key_file.is_some() {
            let problem = "must be set together with secret_access_key_file or not at all";
            return wrong("artifacts.access_key_id", problem);
        }
        if self.max_disk_gib == Some(0) {
            return Err(not_zero("artifacts.max_disk_gib"));
        }
        if self.max_disk_gib.is_some() && self.source.is_none() {
            let problem = "needs artifacts.source, from which what is evicted comes back";
            return wrong("artifacts.max_disk_gib", problem);
        }
        self.secret().map(drop)
    }

    /// What a host is told; [`Artifacts::check`] found that it can be.
    pub(crate) fn config(&self) -> Result<ArtifactsConfig, ConfigError> {
        let secret = self.secret()?;
        let source = self.source.as_ref().map(|source| {
            if source.starts_with("s3://") {
                SourceConfig::S3 {
                    url: source.clone(),
                    endpoint: self.endpoint.clone(),
                    region: self.region.clone(),
                    keys: self.access_key_id.clone().zip(secret),
                }
            } else {
                SourceConfig::Directory(source.into())
            }
        });
        Ok(ArtifactsConfig {
            source,
            max_bytes: self.max_disk_gib.map(|gib| u64::from(gib) << 30),
        })
    }

    fn secret(&self) -> Result<Option<SecretString>, ConfigError> {
        let Some(path) = &self.secret_access_key_file else {
            return Ok(None);
        };
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Value {
            key: "artifacts.secret_access_key_file",
            problem: format!("cannot be read: {error}"),
        })?;
        Ok(Some(SecretString::from(
            text.trim_end_matches(['\r', '\n']),
        )))
    }
}

fn bucket(url: &str) -> &str {
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    rest.split('/').next().unwrap_or_default()
}
