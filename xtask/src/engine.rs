//! Which engine servers that are started here use, and how.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

/// Filters for a Firecracker that was built without any.
const SECCOMP_FILTER: &str = "EMBERBOX_SECCOMP_FILTER";

/// How long a probe VM may take, in seconds: emulated hardware needs longer.
pub(crate) const PROBE_TIMEOUT: &str = "EMBERBOX_PROBE_TIMEOUT_SEC";

/// As `engine.kind` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Auto,
    Qemu,
    Firecracker,
}

/// The settings of the engine; nothing is the product's default.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineSettings {
    kind: Option<Kind>,
    seccomp_filter: Option<PathBuf>,
    probe_timeout_sec: Option<u16>,
}

impl EngineSettings {
    /// What the environment says, and which one.
    pub(crate) fn new(kind: Option<Kind>) -> Result<Self> {
        let timeout = std::env::var(PROBE_TIMEOUT).ok();
        let timeout = timeout.map(|text| text.parse::<u16>().context(PROBE_TIMEOUT));
        Ok(Self {
            kind,
            seccomp_filter: std::env::var_os(SECCOMP_FILTER).map(PathBuf::from),
            probe_timeout_sec: timeout.transpose()?,
        })
    }

    /// The name of the kind that is asked for, and the probe's deadline, as
    /// `floor` takes them.
    pub(crate) fn arguments(&self) -> [String; 2] {
        /// The product's own default.
        const PROBE_TIMEOUT_SEC: u16 = 15;
        let kind = self.kind.unwrap_or(Kind::Auto);
        let timeout = self.probe_timeout_sec.unwrap_or(PROBE_TIMEOUT_SEC);
        [name(kind), timeout.to_string()]
    }

    /// The `[engine]` table; empty when nothing is set.
    pub(crate) fn toml(&self) -> String {
        let kind = self.kind.map(|kind| format!("kind = \"{}\"\n", name(kind)));
        let filter = self.seccomp_filter.as_ref();
        let filter =
            filter.map(|path| format!("seccomp_filter = {:?}\n", path.display().to_string()));
        let timeout = self.probe_timeout_sec;
        let timeout = timeout.map(|seconds| format!("probe_timeout_sec = {seconds}\n"));
        let lines: String = [kind, filter, timeout].into_iter().flatten().collect();
        if lines.is_empty() {
            return lines;
        }
        format!("[engine]\n{lines}")
    }

    /// Runs the binary's command with these settings.
    pub(crate) fn with_settings<T>(
        &self,
        binary: &Path,
        arguments: &[&str],
        run: impl FnOnce(&mut Command) -> Result<T>,
    ) -> Result<T> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
        fs::write(file.path(), self.toml()).context("cannot write the settings")?;
        let mut command = Command::new(binary);
        run(command.args(arguments).arg("--config").arg(file.path()))
    }
}

fn name(kind: Kind) -> String {
    let value = kind.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
