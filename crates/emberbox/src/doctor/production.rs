//! Whether this machine may run guests that nobody trusts: what a server needs
//! to run is the plain report's affair, this is about what could go wrong then.
//!
//! Facts are gathered in `facts`, judged in `check` and written in `render`;
//! the last two are pure. Nothing of the machine is changed.

mod check;
mod facts;
mod render;

use serde::Serialize;

use super::report::Report;
use crate::config::Config;
use crate::{cli, output};

pub(crate) use check::Item;

use check::{Check, Verdict};
use facts::Host;

/// What was found, and what follows.
#[derive(Debug, Serialize)]
struct Production {
    /// Of this binary.
    version: String,
    /// Nothing is unsafe but what the operator accepted.
    safe: bool,
    checks: Vec<Check>,
    host: Host,
    /// What this machine can do at all.
    doctor: Report,
}

impl Production {
    fn new(doctor: Report, host: Host, accepted: &[Item]) -> Self {
        let checks = check::all(&doctor, &host, accepted);
        Self {
            version: doctor.facts.version.clone(),
            safe: checks.iter().all(|check| check.verdict != Verdict::Unsafe),
            checks,
            host,
            doctor,
        }
    }
}

/// Prints the checks; whether nothing is unsafe.
pub(super) fn run(
    arguments: &cli::Doctor,
    config: &Config,
    doctor: Report,
) -> anyhow::Result<bool> {
    let host = facts::gather(arguments, config, &doctor.facts);
    let production = Production::new(doctor, host, &arguments.accept);
    if arguments.json {
        output::json(&production)?;
    } else {
        output::line(render::text(&production).trim_end())?;
    }
    Ok(production.safe)
}
