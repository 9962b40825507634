//! Measurements. Every figure stands beside its floor, taken in the same run,
//! turn by turn: the machines are shared, and only a ratio holds.
//!
//! A bench says what it found once, as [`Findings`]; the terminal, the JSON
//! files, `docs/performance.md` and its plots are made from that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{FromArgMatches, Subcommand};
use serde_json::Value;

use crate::command::root;
use crate::demo::server::Server;
use crate::engine::Kind;
use crate::setup::{self, Product};

mod api;
mod build;
mod burst;
mod create;
mod density;
mod document;
mod exec;
mod files;
mod floor;
mod machine;
mod markdown;
mod network;
mod peers;
mod plot;
mod process;
mod proxy;
mod report;
#[cfg(test)]
mod sample;
mod snapshot;
mod tool;

use machine::Machine;
use report::{Findings, Report};

/// A bench is a line of this: its help, its name, the type that measures. The
/// full run takes them in this order.
macro_rules! benches {
    ($($(#[doc = $help:literal])+ $variant:ident($bench:ty) = $name:literal,)+) => {
        /// What can be measured.
        #[derive(Subcommand)]
        enum Bench {
            $($(#[doc = $help])+ #[command(name = $name)] $variant($bench),)+
        }

        impl Bench {
            fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            fn measure(&self) -> &dyn Measure {
                match self {
                    $(Self::$variant(bench) => bench,)+
                }
            }
        }
    };
}

benches! {
    /// Create-to-ready over HTTP beside the floor, prepared and on demand, exec
    /// round trip, memory and disk of a sandbox.
    Create(create::Create) = "create",
    /// Many creates with their first command: one after the other, staggered,
    /// all at once; with VMs prepared for all of them and with none.
    Burst(burst::Burst) = "burst",
    /// How soon a streamed command's output arrives, and what idle streams
    /// cost.
    Exec(exec::Exec) = "exec",
    /// Upload and download of 100 MB beside raw TCP into the same guest.
    Files(files::Files) = "files",
    /// A preview beside nginx before the same guest server.
    Proxy(proxy::Proxy) = "proxy",
    /// How long a snapshot stops its guest beside writing as much, and a
    /// resume beside a create.
    Snapshot(snapshot::Snapshot) = "snapshot",
    /// Builds of templates: again with nothing changed, with the last step
    /// changed, packing beside `tar` and `mkfs.erofs`, and what templates share.
    Build(build::Build) = "build",
    /// The control plane alone, on one core: GETs beside a bare handler, lists
    /// of many sandboxes, creates.
    Api(api::Api) = "api",
    /// Many sandboxes alive at once: whether all answer, and what they take.
    Density(density::Density) = "density",
    /// Other ways to run a command in a box of its own, side by side.
    Peers(peers::Peers) = "peers",
}

/// Something that can be measured, with how much of it as its arguments.
trait Measure {
    /// Takes the figures. That a figure misses its target is no error.
    fn measure(&self, product: &Product) -> Result<Findings>;
}

/// What to measure; all of it, and anew in docs/performance.md, when nothing
/// is named.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Where each bench leaves NAME.json [default: target/bench].
    #[arg(long, value_name = "DIR", global = true)]
    output: Option<PathBuf>,
    /// What runs the VMs; the product's own choice when absent.
    #[arg(long, global = true)]
    engine: Option<Kind>,
}

#[derive(Subcommand)]
enum What {
    #[command(flatten)]
    Bench(Bench),
    /// Write docs/performance.md and its plots from figures that were taken.
    Report,
}

/// Measures.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let output = arguments.output.clone();
    let output = output.unwrap_or_else(|| root().join("target/bench"));
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    match &arguments.what {
        Some(What::Bench(bench)) => one(bench, &setup::on(arguments.engine)?, &output),
        Some(What::Report) => document::write(&read(&output)?),
        None => every(&output, arguments.engine),
    }
}

/// Runs them all, also after one that failed, and writes the document.
fn every(output: &Path, engine: Option<Kind>) -> Result<()> {
    let begun = Instant::now();
    let product = setup::on(engine)?;
    let mut failed = Vec::new();
    for bench in Bench::every()? {
        let name = bench.name();
        // What an earlier run found is not this one's.
        let _ = fs::remove_file(file(output, name));
        eprintln!("bench {name}");
        if let Err(error) = one(&bench, &product, output) {
            eprintln!("error: bench {name}: {error:#}");
            failed.push(name);
        }
    }
    let reports = read(output)?;
    document::write(&reports)?;
    let targets = reports.iter().flat_map(|report| &report.findings.targets);
    println!("\n{}", markdown::targets(targets));
    println!("{:.1} minutes", begun.elapsed().as_secs_f64() / 60.0);
    ensure!(failed.is_empty(), "did not run: {}", failed.join(", "));
    Ok(())
}

fn one(bench: &Bench, product: &Product, output: &Path) -> Result<()> {
    let begun = Instant::now();
    let report = Report {
        bench: bench.name().to_owned(),
        machine: Machine::here(product)?,
        day: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        findings: bench.measure().measure(product)?,
    };
    println!("{}", markdown::report(&report));
    eprintln!(
        "bench {}: {:.0} s",
        report.bench,
        begun.elapsed().as_secs_f64()
    );
    let text = serde_json::to_string_pretty(&report).context("cannot write the figures")?;
    let file = file(output, &report.bench);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn file(output: &Path, bench: &str) -> PathBuf {
    output.join(bench).with_extension("json")
}

/// What was found, in the order of the benches.
fn read(output: &Path) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for bench in Bench::every()? {
        let file = file(output, bench.name());
        if !file.exists() {
            continue;
        }
        let read = || -> Result<Report> { Ok(serde_json::from_slice(&fs::read(&file)?)?) };
        reports.push(read().with_context(|| format!("cannot read {}", file.display()))?);
    }
    ensure!(
        !reports.is_empty(),
        "no figures in {}; `cargo xtask bench` takes them",
        output.display()
    );
    Ok(reports)
}

impl Bench {
    /// All of them, as the command line makes them without arguments.
    fn every() -> Result<Vec<Self>> {
        let command = Self::augment_subcommands(clap::Command::new("bench"));
        let names = command.get_subcommands().map(|bench| bench.get_name());
        let names: Vec<String> = names.map(str::to_owned).collect();
        let bench = |name: &String| -> Result<Self> {
            let matches = command.clone().try_get_matches_from(["bench", name])?;
            Ok(Self::from_arg_matches(&matches)?)
        };
        names.iter().map(bench).collect()
    }
}

/// Settings with which every create is a restore on demand, however fast they
/// come.
const ON_DEMAND: &str = "[limits]\nrequests_per_minute = 0\n[pool]\nmax_prepared = 0\n";

/// One VM is prepared, the next while nothing is measured.
const PREPARED: &str = "[limits]\nrequests_per_minute = 0\n[pool]\nkeep = 1\nmax_prepared = 1\n";

/// Measures against a server of its own with these settings, and ends it
/// whatever comes of that.
fn served<T>(
    product: &Product,
    settings: &str,
    measure: impl FnOnce(&Server) -> Result<T>,
) -> Result<T> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let mut server = start(product, &directory.path().join("server"), settings)?;
    let measured = measure(&server);
    if measured.is_err() {
        server.show_log();
    }
    let ended = end(&mut server);
    // What broke the measurement says more than what that left behind.
    let measured = measured?;
    ended?;
    Ok(measured)
}

/// A server with these settings, in a directory that is made for it.
fn start(product: &Product, directory: &Path, settings: &str) -> Result<Server> {
    fs::create_dir(directory).context("cannot make a directory")?;
    let config = directory.join("emberbox.toml");
    fs::write(&config, settings).context("cannot write the settings")?;
    let mut server = Server::new(product, directory).with_config(&config);
    server.start()?;
    Ok(server)
}

/// Destroys what a measurement that failed has left, and ends the server.
fn end(server: &mut Server) -> Result<()> {
    let api = server.api()?;
    let list = api.get("/sandboxes")?;
    for sandbox in list["data"].as_array().into_iter().flatten() {
        if let (Some(id), false) = (sandbox["id"].as_str(), sandbox["state"] == "destroyed") {
            api.destroy(id)?;
        }
    }
    server.stop()
}

/// The id of a sandbox's record.
fn id_of(sandbox: &Value) -> Result<&str> {
    sandbox["id"].as_str().context("a sandbox without an id")
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// The steps of a `Server-Timing` header that have a duration, in milliseconds.
fn steps(timing: &str) -> Vec<(String, f64)> {
    let entries = timing.split(", ");
    let steps = entries.filter_map(|entry| {
        let (name, duration) = entry.split_once(";dur=")?;
        Some((name.to_owned(), duration.parse().ok()?))
    });
    steps.collect()
}

/// What the server says a create took from its arrival to its answer, in
/// milliseconds.
fn total_of(timing: &str) -> Result<f64> {
    let total = steps(timing).into_iter().find(|(name, _)| name == "total");
    Ok(total.context("no total in Server-Timing")?.1)
}

/// How the server says the VM of a create came up.
fn how(timing: &str) -> &str {
    let how = timing
        .split(", ")
        .find_map(|entry| entry.strip_prefix("how;desc="));
    how.unwrap_or_default().trim_matches('"')
}

#[cfg(test)]
mod tests;
