//! The guest agent this binary carries.

use anyhow::{Result, bail};

static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// The agent, unless the binary was built without one.
pub(crate) fn bytes() -> Result<&'static [u8]> {
    if AGENT.is_empty() {
        bail!("this binary was built without the guest agent; build it with `cargo xtask build`");
    }
    Ok(AGENT)
}
