//! The name of a base image: its grammar, and the families that are refused
//! without a look inside.

use std::fmt;
use std::str::FromStr;

/// A reference to an image: `[registry/]path[:tag][@algorithm:hex]`, the
/// grammar of the OCI distribution specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// `docker.io`, `localhost:5000` or the like, when one is named.
    pub registry: Option<String>,
    /// For example `library/debian`, or `debian`.
    pub path: String,
    /// For example `bookworm`.
    pub tag: Option<String>,
    /// For example `sha256:…`.
    pub digest: Option<String>,
}

/// Why a name cannot be a base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseImage {
    /// It is no name of an image.
    #[error("is not a reference to an OCI image such as debian:bookworm")]
    NotAReference,
    /// A family without what sandboxes need.
    #[error("names a family of images without glibc or a shell ({0}); take a Debian or Ubuntu one")]
    Unsupported(&'static str),
}

/// Longest path of an image (the distribution specification's limit of a name).
const PATH_MAX: usize = 255;

/// Longest tag (the same specification).
const TAG_MAX: usize = 128;

/// Families that have no glibc or no shell, by the words of their names.
const UNSUPPORTED: [&str; 4] = ["alpine", "distroless", "busybox", "scratch"];

impl FromStr for BaseImage {
    type Err = InvalidBaseImage;

    fn from_str(text: &str) -> Result<Self, InvalidBaseImage> {
        let image = split(text).ok_or(InvalidBaseImage::NotAReference)?;
        let words = (image.path.split(['/', '-', '_', '.']))
            .chain(image.tag.iter().flat_map(|tag| tag.split(['-', '_', '.'])));
        for word in words {
            if let Some(family) = family(word) {
                return Err(InvalidBaseImage::Unsupported(family));
            }
        }
        Ok(image)
    }
}

impl fmt::Display for BaseImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The unsupported family that a word of a name stands for: the family's own,
/// or one with a version or `linux` behind it, such as `alpine3`.
fn family(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    UNSUPPORTED.into_iter().find(|family| {
        word.strip_prefix(family).is_some_and(|rest| {
            rest.is_empty() || rest == "linux" || rest.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

fn split(text: &str) -> Option<BaseImage> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the registry's port.
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (name, None),
    };
    // As every client does it: the first part is a registry if it looks like
    // a host.
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        Some(_) | None => (None, name),
    };
    let legal = registry.is_none_or(is_registry)
        && path.len() <= PATH_MAX
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    legal.then(|| BaseImage {
        registry: registry.map(str::to_owned),
        path: path.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // Digits only: `parse` alone would take a sign.
    let port_number =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    host.split('.').all(label) && port.is_none_or(port_number)
}

/// `[a-z0-9]+` parts joined by `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    let separators = bytes.split(alphanumeric);
    ends.into_iter().all(|end| end.is_some_and(alphanumeric))
        && separators
            .into_iter()
            .all(|s| matches!(s, b"" | b"." | b"_" | b"__") || s.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The two algorithms that the image specification registers.
fn is_digest(text: &str) -> bool {
    let hex = |text: &str, len: usize| {
        text.len() == len
            && (text.bytes()).all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match text.split_once(':') {
        Some(("sha256", digits)) => hex(digits, 64),
        Some(("sha512", digits)) => hex(digits, 128),
        Some(_) | None => false,
    }
}
