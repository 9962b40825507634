//! Base images from OCI registries.
//!
//! ```text
//! reference ─▶ mirror ─▶ manifest ─▶ blobs, verified ─▶ one layer, remembered
//! ```
//!
//! The layers of an image become one layer: what a later one hides takes no
//! room, a directory that one of them does not describe keeps what another
//! says of it, and a guest has one disk for its base.
//!
//! Invariants: no byte of a blob is used before all of it has the digest that
//! the manifest says; a registry that the operator did not name is asked over
//! TLS only, and never at an address of a private network, wherever it leads its
//! client (`guard`; a machine that goes out by a proxy leaves that to it); no URL
//! of a manifest is followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::build_dir::BuildDir;
use crate::built::{self, Stack};
use crate::error::ImageError;
use crate::home::Home;
use crate::layer;

mod address;
mod blob;
mod guard;

use guard::Guard;

/// Most layers of an image: container engines themselves take no more.
const MAX_LAYERS: usize = 128;

/// Most bytes of an image's blobs together, compressed.
const MAX_BLOBS: u64 = 8 << 30;

/// Largest description of an image.
const MAX_CONFIG: u64 = 4 << 20;

/// Most bytes of the answers that lead to an image's blobs: tokens, the list of
/// its platforms and its manifest, of which each may have 4 MiB by the OCI
/// specification.
const MAX_ANSWERS: u64 = 16 << 20;

/// Names of the variables that say which proxy this machine goes out by.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// How long a registry may take to answer or to send the next bytes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Base URLs to ask instead of a registry, by its host name. `http://` is
    /// taken as it is written.
    pub mirrors: BTreeMap<String, String>,
    /// Account and password, by host name.
    pub credentials: BTreeMap<String, (String, String)>,
}

/// Why there is no base image. Safe to show to users, but for the sources.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// There is no such image, or none for this machine.
    #[error("the image {0} was not found: {1}")]
    NotFound(String, &'static str),
    /// The registry wants to know who asks.
    #[error("the registry {0} refused access to the image")]
    Unauthorized(String),
    /// The registry cannot be asked.
    #[error("the registry {registry} did not answer as one: {why}")]
    Unavailable {
        /// Which.
        registry: String,
        /// What is known.
        why: String,
    },
    /// What arrived is something else.
    #[error("what the registry sent is not what its digest {0} says")]
    Mismatch(String),
    /// The image has too much of something.
    #[error("the image has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
    /// It could not be packed.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What is of use in an image's description.
#[derive(Debug, Deserialize)]
struct Description {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<Settings>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(default, rename = "Env")]
    env: Option<Vec<String>>,
}

/// The image that `from` names, as something to build on. Blobs that are there
/// are not fetched again, and one that broke off goes on where it did.
/// Cancel-safe.
pub async fn pull(
    home: &Home,
    dir: &Arc<BuildDir>,
    from: &str,
    registries: &Registries,
) -> Result<Stack, PullError> {
    let source = Source::of(from, registries).await?;
    source.allow(MAX_ANSWERS);
    let manifest = source
        .client
        .pull_image_manifest(&source.image, &source.auth);
    let manifest = tokio::time::timeout(PATIENCE, manifest).await;
    let manifest = manifest.map_err(|_late| source.unavailable("it took too long"))?;
    let (manifest, digest) = manifest.map_err(|error| source.explain(error))?;
    check(&manifest)?;

    let empty = Stack {
        layers: Vec::new(),
        env: BTreeMap::new(),
    };
    let key = built::step_key(&empty, &["image", &digest]);
    let (at, build, wanted) = (home.clone(), Arc::clone(dir), key.clone());
    let known = blocking(move || built::remembered(&at, &build, &wanted)).await?;
    if let Some(stack) = known {
        return Ok(stack);
    }
    let env = source.environment(home, &manifest.config).await?;
    let mut blobs = Vec::new();
    for layer in &manifest.layers {
        blobs.push(source.fetch(home, layer).await?);
    }
    let (home, build) = (home.clone(), Arc::clone(dir));
    let stack = blocking(move || {
        let layers = blobs.iter().map(|blob| unpacked(blob));
        let layer = layer::layer_of_image(&home, &build, layers)?;
        let stack = Stack {
            layers: vec![layer],
            env,
        };
        built::remember(&home, &key, &stack)?;
        blob::evict(&home)?;
        Ok(stack)
    });
    Ok(stack.await?)
}

fn check(manifest: &OciImageManifest) -> Result<(), PullError> {
    if manifest.layers.len() > MAX_LAYERS {
        return Err(PullError::Limit {
            what: "layers",
            limit: MAX_LAYERS as u64,
        });
    }
    let sizes = manifest.layers.iter().map(|layer| layer.size);
    let bytes = sizes.fold(0, |sum: u64, size| {
        sum.saturating_add(u64::try_from(size).unwrap_or(u64::MAX))
    });
    if bytes > MAX_BLOBS {
        return Err(PullError::Limit {
            what: "bytes in its layers",
            limit: MAX_BLOBS,
        });
    }
    Ok(())
}

/// A blob's content, whatever it is packed with: media types lie.
fn unpacked(blob: &PathBuf) -> Result<Box<dyn Read>, ImageError> {
    let failed = |source| ImageError::io("read", blob)(source);
    let mut file = BufReader::new(File::open(blob).map_err(failed)?);
    let start = io::BufRead::fill_buf(&mut file).map_err(failed)?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(file).map_err(failed)?)
    } else {
        Box::new(file)
    })
}

/// Where an image is asked for, and as whom.
struct Source {
    client: Client,
    image: Reference,
    auth: RegistryAuth,
    /// The client's way out, unless the operator named where it goes.
    guard: Option<Guard>,
    /// As people know it.
    registry: String,
    from: String,
}

impl Source {
    async fn of(from: &str, registries: &Registries) -> Result<Self, PullError> {
        let asked: Reference = from
            .parse()
            .map_err(|_bad| PullError::NotFound(from.to_owned(), "it is no image reference"))?;
        let name = asked.registry().to_owned();
        let mirror = registries.mirrors.get(&name);
        let (plain, host, prefix) = match mirror {
            Some(url) => address::of_mirror(url),
            None => (false, name.clone(), String::new()),
        };
        let credentials = registries.credentials.get(&host);
        let named = mirror.is_some() || credentials.is_some();
        let repository = format!("{prefix}{}", asked.repository());
        let image = match (asked.digest(), asked.tag()) {
            (Some(digest), _) => {
                Reference::with_digest(host.clone(), repository, digest.to_owned())
            }
            (None, tag) => {
                let tag = tag.unwrap_or("latest");
                Reference::with_tag(host.clone(), repository, tag.to_owned())
            }
        };
        trust();
        let unavailable = |error: io::Error| PullError::Unavailable {
            registry: host.clone(),
            why: error.to_string(),
        };
        let guard = if named || goes_out_by_a_proxy() {
            None
        } else {
            let guard = Guard::open(address::is_global).await;
            Some(guard.map_err(unavailable)?)
        };
        let way_out = guard.as_ref().map(Guard::url);
        let source = Self {
            client: Client::new(ClientConfig {
                http_proxy: way_out.clone(),
                https_proxy: way_out,
                protocol: if plain {
                    ClientProtocol::HttpsExcept(vec![host.clone()])
                } else {
                    ClientProtocol::Https
                },
                read_timeout: Some(PATIENCE),
                connect_timeout: Some(PATIENCE),
                ..ClientConfig::default()
            }),
            auth: credentials.map_or(RegistryAuth::Anonymous, |(account, password)| {
                RegistryAuth::Basic(account.clone(), password.clone())
            }),
            guard,
            image,
            registry: host,
            from: from.to_owned(),
        };
        if !named && source.guard.is_none() {
            let public = address::is_public(source.image.resolve_registry()).await;
            let public = public.map_err(|error| source.unavailable(&error.to_string()))?;
            if !public {
                return Err(source.unavailable("it is not on a public address"));
            }
        }
        Ok(source)
    }

    /// The variables an image gives its processes.
    async fn environment(
        &self,
        home: &Home,
        config: &OciDescriptor,
    ) -> Result<BTreeMap<String, String>, PullError> {
        if u64::try_from(config.size).unwrap_or(u64::MAX) > MAX_CONFIG {
            return Err(PullError::Limit {
                what: "bytes in its description",
                limit: MAX_CONFIG,
            });
        }
        let file = self.fetch(home, config).await?;
        let text = std::fs::read(&file).map_err(ImageError::io("read", &file))?;
        let description: Description = serde_json::from_slice(&text)
            .map_err(|_bad| self.unavailable("the image's description cannot be read"))?;
        if description.os != "linux" || !is_ours(&description.architecture) {
            let why = "it is for another kind of machine";
            return Err(PullError::NotFound(self.from.clone(), why));
        }
        let settings = description.config.and_then(|config| config.env);
        let variables = settings.unwrap_or_default();
        let variables = variables.iter().filter_map(|variable| {
            let (name, value) = variable.split_once('=')?;
            let possible = !name.is_empty() && !variable.contains('\0');
            possible.then(|| (name.to_owned(), value.to_owned()))
        });
        Ok(variables.collect())
    }

    async fn fetch(&self, home: &Home, blob: &OciDescriptor) -> Result<PathBuf, PullError> {
        blob::fetch(self, home, blob).await
    }

    /// Sets how much the registry may send from now on.
    fn allow(&self, bytes: u64) {
        if let Some(guard) = &self.guard {
            guard.allow(bytes);
        }
    }

    fn unavailable(&self, why: &str) -> PullError {
        PullError::Unavailable {
            registry: self.registry.clone(),
            why: why.to_owned(),
        }
    }

    fn explain(&self, error: OciDistributionError) -> PullError {
        if let Some(guard) = &self.guard {
            if guard.has_refused() {
                return self.unavailable("it, or where it leads, is not on a public address");
            }
            if guard.is_exhausted() {
                return PullError::Limit {
                    what: "bytes in what describes it",
                    limit: MAX_ANSWERS,
                };
            }
        }
        let not_found = |why| PullError::NotFound(self.from.clone(), why);
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                PullError::Unauthorized(self.registry.clone())
            }
            OciDistributionError::DigestError(DigestError::VerificationError {
                expected, ..
            }) => PullError::Mismatch(expected),
            OciDistributionError::ImageManifestNotFoundError(_) => {
                not_found("it is for another kind of machine")
            }
            OciDistributionError::ServerError { code: 404, .. } => {
                not_found("the registry does not know it")
            }
            OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => PullError::Unauthorized(self.registry.clone()),
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| {
                    let mut errors = envelope.errors.iter();
                    errors.any(|error| codes.contains(&error.code))
                };
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    PullError::Unauthorized(self.registry.clone())
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                    OciErrorCode::BlobUnknown,
                ]) {
                    not_found("the registry does not know it")
                } else {
                    self.unavailable("it refused the request")
                }
            }
            // May name addresses of the operator's network.
            other => {
                tracing::info!(error = %other, registry = self.registry, "a pull failed");
                self.unavailable("the connection failed")
            }
        }
    }
}

fn goes_out_by_a_proxy() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    PROXIES.into_iter().any(set)
}

/// What TLS is done with, unless somebody has said it before.
pub(crate) fn trust() {
    let _said_already = rustls::crypto::ring::default_provider().install_default();
}

fn is_ours(architecture: &str) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => architecture == "amd64",
        "aarch64" => architecture == "arm64",
        other => architecture == other,
    }
}

/// Runs blocking work of this crate.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|panic| {
        Err(ImageError::Io {
            doing: "work on images".to_owned(),
            source: io::Error::other(panic),
        })
    })
}

#[cfg(test)]
mod tests;
