//! The package sources of the host's own distribution.
//!
//! Decides which of the host's apt sources a guest image is made from: those
//! of the release itself, never a third party's, so that an image holds what
//! the distribution supports. No mirror is named here; the host's are used.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::error::ImageError;

/// The distribution of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// `ID` of os-release: `debian`, `ubuntu`.
    pub(crate) id: String,
    /// `VERSION_CODENAME`: `bookworm`, `noble`.
    pub(crate) codename: String,
}

impl Distribution {
    /// The one this process runs on.
    pub(crate) fn of_host() -> Result<Self, ImageError> {
        const FILE: &str = "/etc/os-release";
        let text = fs::read_to_string(FILE).map_err(ImageError::io("read", Path::new(FILE)))?;
        Self::parse(&text)
    }

    fn parse(os_release: &str) -> Result<Self, ImageError> {
        let field = |name: &str| {
            os_release
                .lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| ImageError::Distribution {
                    detail: format!("/etc/os-release has no {name}"),
                })
        };
        Ok(Self {
            id: field("ID")?,
            codename: field("VERSION_CODENAME")?,
        })
    }

    /// Whether `suite` is the release, its updates or its security fixes.
    fn has_suite(&self, suite: &str) -> bool {
        suite.strip_prefix(&self.codename).is_some_and(|rest| {
            matches!(
                rest,
                "" | "-updates" | "-security" | "/updates" | "-updates/" | "-security/"
            )
        })
    }
}

/// One apt source, whichever of the two formats it was written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) uris: Vec<String>,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    /// Everything else that matters, as deb822 fields: `Signed-By` above all.
    options: Vec<(String, String)>,
}

impl Source {
    /// As a stanza of a `.sources` file.
    fn write(&self, out: &mut String) {
        let _ = write!(
            out,
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            self.uris.join(" "),
            self.suites.join(" "),
            self.components.join(" "),
        );
        for (name, value) in &self.options {
            let _ = writeln!(out, "{name}: {value}");
        }
        out.push('\n');
    }
}

/// Sources as the text of a `.sources` file.
pub(crate) fn to_deb822(sources: &[Source]) -> String {
    let mut text = String::new();
    for source in sources {
        source.write(&mut text);
    }
    text
}

/// The host's sources for `distribution`, in the order apt reads them. A third
/// party that names its suite like the release is still among them; only the
/// signed release file tells ([`crate::apt`] looks there).
pub(crate) fn of_host(distribution: &Distribution) -> Result<Vec<Source>, ImageError> {
    of_dir(Path::new("/etc/apt"), distribution)
}

fn of_dir(dir: &Path, distribution: &Distribution) -> Result<Vec<Source>, ImageError> {
    let mut files = vec![dir.join("sources.list")];
    let parts = dir.join("sources.list.d");
    if let Ok(entries) = fs::read_dir(&parts) {
        let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(parse_deb822(&text)),
            Some("list") => sources.extend(text.lines().filter_map(parse_line)),
            Some(_) | None => {}
        }
    }
    for source in &mut sources {
        source.suites.retain(|suite| distribution.has_suite(suite));
    }
    sources.retain(|source| !source.suites.is_empty() && !source.components.is_empty());
    if !sources
        .iter()
        .any(|source| source.suites.contains(&distribution.codename))
    {
        return Err(ImageError::Distribution {
            detail: format!(
                "no source in {} offers the suite {}",
                dir.display(),
                distribution.codename
            ),
        });
    }
    Ok(sources)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(from_fields(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            // A continued value, for example an embedded key; its line
            // structure is part of it.
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sources
}

fn from_fields(fields: Vec<(String, String)>) -> Option<Source> {
    let mut source = Source {
        uris: Vec::new(),
        suites: Vec::new(),
        components: Vec::new(),
        options: Vec::new(),
    };
    for (name, value) in fields {
        match name.to_ascii_lowercase().as_str() {
            "types" if !value.split_whitespace().any(|kind| kind == "deb") => return None,
            "types" => {}
            "enabled" if matches!(value.as_str(), "no" | "false" | "0" | "off") => return None,
            "enabled" => {}
            "uris" => source.uris = words(&value),
            "suites" => source.suites = words(&value),
            "components" => source.components = words(&value),
            _ => source.options.push((name, value)),
        }
    }
    (!source.uris.is_empty()).then_some(source)
}

/// `deb [signed-by=/key arch=amd64] uri suite component...`
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(bracket) => bracket.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        options: options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .filter_map(|(name, value)| {
                let name = match name {
                    "arch" => "Architectures",
                    "signed-by" => "Signed-By",
                    "trusted" => "Trusted",
                    "check-valid-until" => "Check-Valid-Until",
                    _ => return None,
                };
                Some((name.to_owned(), value.replace(',', " ")))
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests;
