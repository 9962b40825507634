//! How long what is waited for may take: on an emulated machine many times as
//! long as elsewhere.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};

/// Says how many times as long.
pub(crate) const FACTOR: &str = "EMBERBOX_PATIENCE";

static READ: OnceLock<u32> = OnceLock::new();

/// Reads the factor from the environment, once.
pub(crate) fn read() -> Result<()> {
    if let Ok(text) = std::env::var(FACTOR) {
        let factor = text
            .parse()
            .with_context(|| format!("{FACTOR} is {text}"))?;
        READ.get_or_init(|| factor);
    }
    Ok(())
}

/// As many times as long as usual; no longer when nothing was read.
pub(crate) fn patience(usual: Duration) -> Duration {
    usual * READ.get().copied().unwrap_or(1)
}
