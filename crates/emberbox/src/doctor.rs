//! What this machine can do, and what is missing.
//!
//! Facts are gathered in `facts`, judged in `report` and written in `render`;
//! the last two are pure.

mod facts;
mod production;
mod render;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::config::Config;
use crate::{cli, output};

pub(crate) use facts::gather;
pub(crate) use production::Item;
pub(crate) use report::Report;

/// Prints the report; fails when something that is needed is missing or, asked
/// about production, unsafe.
pub(crate) fn run(arguments: &cli::Doctor) -> Result<ExitCode> {
    let config = Config::load(arguments.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let report = Report::new(runtime.block_on(gather(&config))?);
    let well = if arguments.production {
        production::run(arguments, &config, report)?
    } else {
        if arguments.json {
            output::json(&report)?;
        } else {
            output::line(render::text(&report).trim_end())?;
        }
        report.ok
    };
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
