//! Printing the OpenAPI document.

use anyhow::Result;

use crate::output;

/// Writes it as the server serves it.
pub(crate) fn run() -> Result<()> {
    output::json(&emberbox_control::openapi())
}
