//! Programs of others that are measured or measure.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::package::{self, Requirement};

/// Where programs are, `/usr/sbin` too for those without it on their PATH.
const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// A program, the package it is in, and what it is for.
pub(super) type Needed = (&'static str, &'static str, &'static str);

/// Installs what is missing of these.
pub(super) fn install(needed: &[Needed]) -> Result<()> {
    let missing = needed
        .iter()
        .filter(|(program, ..)| which(program).is_none());
    let missing = missing.map(|(program, package, why)| Requirement {
        program: (*program).to_owned(),
        package: (*package).to_owned(),
        why: (*why).to_owned(),
    });
    package::install(&missing.collect::<Vec<_>>())
}

/// Where a program is, if it is installed.
pub(super) fn which(program: &str) -> Option<PathBuf> {
    let places = DIRECTORIES
        .iter()
        .map(|place| Path::new(place).join(program));
    places.into_iter().find(|path| path.exists())
}
