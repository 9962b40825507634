//! Code in a real microVM restored from a snapshot, shown and checked through
//! HTTP only, on a server of its own.
//!
//! Whatever happens, the server it started is ended, the sandboxes are
//! destroyed and the directory is removed (unless `--keep`).

pub(crate) mod api;
pub(crate) mod leak;
mod memory;
mod report;
mod scenario;
pub(crate) mod server;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::engine::Kind;
use crate::setup;
use leak::Owned;
use report::Report;
use server::Server;

/// How to show it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write steps and timings to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What runs the VMs; the product's own choice when absent.
    #[arg(long)]
    engine: Option<Kind>,
    /// Leave the server and a sandbox running, and say how to reach them.
    #[arg(long)]
    keep: bool,
}

/// Sets up, then shows it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut report = Report::new();
    let outcome = show(arguments, &mut report);
    report.finish(started.elapsed(), outcome.as_ref().err());
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    outcome
}

fn show(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let product = report.step("build and set up", || setup::on(arguments.engine))?;

    // Not 0700: the VMM of a sandbox runs as a user of its own and has to
    // reach its files below.
    let directory = tempfile::Builder::new()
        .prefix("emberbox-demo-")
        .permissions(fs::Permissions::from_mode(0o711))
        .tempdir()
        .context("cannot make a temporary directory")?;
    let mut server = Server::new(&product, directory.path());
    let mut owned = Owned::default();

    let outcome = scenario::run(&mut server, &mut owned, report);
    if outcome.is_err() {
        server.show_log();
    }
    if arguments.keep && outcome.is_ok() {
        return keep(server, directory);
    }

    let cleaned = scenario::clean_up(&mut server, report);
    let path = directory.path().to_owned();
    let leaks = report.step("nothing is left", || {
        owned.check(&path)?;
        directory
            .close()
            .with_context(|| format!("cannot remove {}", path.display()))
    });
    outcome.and(cleaned).and(leaks)
}

fn keep(server: Server, directory: tempfile::TempDir) -> Result<()> {
    let url = server.url()?.to_owned();
    let key = server.key_file();
    let pid = server.leave_running()?;
    let directory = directory.keep();
    println!(
        "the server goes on as process {pid} in {}",
        directory.display()
    );
    println!("  export EMBERBOX_URL={url}");
    println!("  export EMBERBOX_API_KEY=$(cat {})", key.display());
    Ok(())
}
