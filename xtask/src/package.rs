//! System packages: which are missing is the product's own knowledge
//! (`emberbox doctor`), how they are installed is decided here.

use std::process::Command;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::command;

/// A program that has to be there.
#[derive(Debug, Deserialize)]
pub(crate) struct Requirement {
    /// The program.
    pub(crate) program: String,
    /// The Debian and Ubuntu package it is in.
    pub(crate) package: String,
    /// What it is needed for.
    pub(crate) why: String,
}

/// Installs the packages as root; otherwise fails with the line that does it.
pub(crate) fn install(missing: &[Requirement]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = Vec::new();
    for requirement in missing {
        eprintln!(
            "missing: {} (package {}): {}",
            requirement.program, requirement.package, requirement.why
        );
        if !packages.contains(&requirement.package.as_str()) {
            packages.push(&requirement.package);
        }
    }
    let line = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    if !rustix::process::geteuid().is_root() {
        bail!(
            "not root, so nothing can be installed; run this and try again:\n  sudo sh -c '{line}'"
        );
    }
    command::run(apt_get().arg("update"))?;
    command::run(
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(&packages),
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    command
}
