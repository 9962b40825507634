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

/// Builds both as users get them.
pub(crate) fn release() -> Result<Built> {
    let agent = agent()?;
    let mut build = cargo();
    build.args(["build", "--release", "--package", "emberbox"]);
    command::run(carry(&mut build, &agent))?;
    built("release", agent)
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
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let directory = root().join("target/agent");
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
    let agent = directory.join(target).join("release/emberbox-agent");
    ensure!(agent.is_file(), "{} was not built", agent.display());
    Ok(agent)
}
