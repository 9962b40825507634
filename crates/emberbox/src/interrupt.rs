//! What Ctrl-C does to a command that follows something.

use std::process::ExitCode;

use anyhow::{Context, Result};

/// What shells exit with when Ctrl-C (signal 2) ended a command: 128 plus the
/// signal's number.
const INTERRUPTED: u8 = 130;

/// Works until the end, or until Ctrl-C: the work is dropped, which closes its
/// connections.
pub(crate) async fn or_interrupted(
    work: impl Future<Output = Result<ExitCode>>,
) -> Result<ExitCode> {
    tokio::select! {
        code = work => code,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("cannot wait for Ctrl-C")?;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}
