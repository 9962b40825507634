//! From a fresh clone to a machine that can run sandboxes.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::build::{self, Built};
use crate::command;
use crate::engine::{EngineSettings, Kind};
use crate::package::{self, Requirement};

/// What was set up.
pub(crate) struct Product {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// The agent in it.
    pub(crate) agent: PathBuf,
    /// Where its images and seeds are.
    pub(crate) home: PathBuf,
    /// What its servers are told of the engine.
    pub(crate) engine: EngineSettings,
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

/// The same for servers with this engine.
pub(crate) fn on(engine: Option<Kind>) -> Result<Product> {
    prepare(build::release()?, EngineSettings::new(engine)?)
}

/// The same with a binary that is built.
pub(crate) fn with(built: Built) -> Result<Product> {
    prepare(built, EngineSettings::new(None)?)
}

fn prepare(built: Built, engine: EngineSettings) -> Result<Product> {
    let Built { binary, agent } = built;
    let before = doctor(&binary, &engine)?;
    package::install(&before.missing)?;
    let after = doctor(&binary, &engine)?;
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
    engine.with_settings(&binary, &["setup", "--trust-host-ca"], command::run)?;
    Ok(Product {
        binary,
        agent,
        home: after.home.path,
        engine,
    })
}

/// The doctor's verdict; its exit code says "something is missing", which is
/// what this asks for and no failure.
fn doctor(binary: &Path, engine: &EngineSettings) -> Result<Doctor> {
    serde_json::from_value(doctor_json(binary, engine)?)
        .context("emberbox doctor --json does not say what it should")
}

/// All the doctor says.
pub(crate) fn doctor_json(binary: &Path, engine: &EngineSettings) -> Result<Value> {
    let output = engine.with_settings(binary, &["doctor", "--json"], |doctor| {
        let doctor = doctor.stderr(Stdio::inherit());
        doctor.output().context("cannot run emberbox doctor")
    })?;
    serde_json::from_slice(&output.stdout)
        .context("emberbox doctor --json does not say what it should")
}
