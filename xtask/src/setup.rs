//! From a fresh clone to a machine that can run sandboxes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::build::{self, Built};
use crate::command;
use crate::package::{self, Requirement};

/// What was set up.
pub(crate) struct Product {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// The agent in it.
    pub(crate) agent: PathBuf,
    /// Where its images and seeds are.
    pub(crate) home: PathBuf,
}

/// What is read of `emberbox doctor --json`.
#[derive(Deserialize)]
struct Doctor {
    home: HomeFacts,
    missing: Vec<Requirement>,
}

#[derive(Deserialize)]
struct HomeFacts {
    path: PathBuf,
}

/// Builds the release, installs what is missing, and prepares images and seed.
/// What is there already is not made again.
pub(crate) fn run() -> Result<Product> {
    with(build::release()?)
}

/// The same with a binary that is built.
pub(crate) fn with(built: Built) -> Result<Product> {
    let Built { binary, agent } = built;
    let before = doctor(&binary)?;
    package::install(&before.missing)?;
    let after = doctor(&binary)?;
    ensure!(
        after.missing.is_empty(),
        "still missing after the installation: {}",
        after
            .missing
            .iter()
            .map(|requirement| requirement.program.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    );
    package::ensure_lists()?;
    command::run(Command::new(&binary).args(["setup", "--trust-host-ca"]))?;
    Ok(Product {
        binary,
        agent,
        home: after.home.path,
    })
}

/// The doctor's verdict; its exit code says "something is missing", which is
/// what this asks for and no failure.
fn doctor(binary: &Path) -> Result<Doctor> {
    serde_json::from_value(doctor_json(binary)?)
        .context("emberbox doctor --json does not say what it should")
}

/// All the doctor says.
pub(crate) fn doctor_json(binary: &Path) -> Result<Value> {
    let output = Command::new(binary)
        .args(["doctor", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run emberbox doctor")?;
    serde_json::from_slice(&output.stdout)
        .context("emberbox doctor --json does not say what it should")
}
