//! The agent first, then the binary that carries it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::command::{self, cargo, root};

/// Builds both and returns where the binary is.
pub(crate) fn release() -> Result<PathBuf> {
    let agent = agent()?;
    command::run(
        cargo()
            .args(["build", "--release", "--package", "emberbox"])
            .env("EMBERBOX_AGENT", agent),
    )?;
    let binary = root().join("target/release/emberbox");
    ensure!(
        binary.is_file(),
        "{} was not built; is CARGO_TARGET_DIR or build.target-dir set?",
        binary.display()
    );
    Ok(binary)
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
