//! The agent first, then the binary that carries it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command::{self, cargo, root};

/// What was built.
pub(crate) struct Built {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// The agent in it.
    pub(crate) agent: PathBuf,
}

/// Names the binary where nothing can be built, as in the rig.
pub(crate) const BUILT: &str = "EMBERBOX_BUILT";

/// Builds both as users get them.
pub(crate) fn release() -> Result<Built> {
    if let Some(binary) = elsewhere() {
        return Ok(Built {
            agent: agent_file(),
            binary,
        });
    }
    let agent = agent()?;
    let mut build = cargo();
    build.args(["build", "--release", "--package", "emberbox"]);
    command::run(carry(&mut build, &agent))?;
    built("release", agent)
}

fn elsewhere() -> Option<PathBuf> {
    std::env::var_os(BUILT).map(PathBuf::from)
}

/// Builds an example of a package as users would get it.
pub(crate) fn example(package: &str, name: &str) -> Result<PathBuf> {
    if let Some(binary) = elsewhere() {
        return Ok(binary.with_file_name("examples").join(name));
    }
    let mut build = cargo();
    build.args(["build", "--release", "--package", package]);
    command::run(build.args(["--example", name]))?;
    Ok(root().join("target/release/examples").join(name))
}

/// Builds every test, and the binary with them: one build of all dependencies
/// where a release would be a second one.
pub(crate) fn tests() -> Result<Built> {
    let agent = agent()?;
    let mut build = cargo();
    build.args(["test", "--workspace", "--no-run"]);
    command::run(carry(&mut build, &agent))?;
    built("debug", agent)
}

/// Has `cargo` put the agent into the binary. Without it the next build takes
/// the agent out again.
pub(crate) fn carry<'a>(cargo: &'a mut Command, agent: &Path) -> &'a mut Command {
    cargo.env("EMBERBOX_AGENT", agent)
}

fn built(profile: &str, agent: PathBuf) -> Result<Built> {
    let binary = root().join("target").join(profile).join("emberbox");
    ensure!(
        binary.is_file(),
        "{} was not built; is CARGO_TARGET_DIR or build.target-dir set?",
        binary.display()
    );
    Ok(Built { binary, agent })
}

/// Builds the guest agent statically: it is the first process of a guest whose
/// root file system is not mounted yet, so there is no C library to load.
fn agent() -> Result<PathBuf> {
    // With `--target`, RUSTFLAGS reach neither build scripts nor macros, which
    // cannot be static. A directory of its own keeps the flags from throwing
    // away every other build.
    let target = target();
    let directory = agent_directory();
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    if !flags.is_empty() {
        flags.push(" ");
    }
    flags.push(OsString::from("-C target-feature=+crt-static"));
    command::run(
        cargo()
            .args(["build", "--release", "--package", "emberbox-agent"])
            .args(["--target", &target])
            .env("RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", &directory),
    )?;
    let agent = agent_file();
    ensure!(agent.is_file(), "{} was not built", agent.display());
    Ok(agent)
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn agent_directory() -> PathBuf {
    root().join("target/agent")
}

fn agent_file() -> PathBuf {
    let release = agent_directory().join(target()).join("release");
    release.join("emberbox-agent")
}
