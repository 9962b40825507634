//! Measurements. Every figure stands beside its floor, taken in the same run,
//! turn by turn: the machines are shared, and only a ratio holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;

use crate::demo::server::Server;
use crate::setup::{self, Product};

mod burst;
mod create;
mod exec;
mod proxy;
mod snapshot;

/// What can be measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Create-to-ready over HTTP beside the floor, prepared and on demand, exec
    /// round trip, memory and disk of a sandbox.
    Create(Output),
    /// Many creates with their first command: one after the other, staggered,
    /// all at once; with VMs prepared for all of them and with none.
    Burst(burst::Arguments),
    /// How soon a streamed command's output arrives, and what idle streams
    /// cost.
    Exec(Output),
    /// A preview beside nginx before the same guest server.
    Proxy(Output),
    /// How long a snapshot stops its guest beside writing as much, and a
    /// resume beside a create.
    Snapshot(Output),
}

/// Where the figures go besides the terminal.
#[derive(clap::Args)]
pub(crate) struct Output {
    /// Write the figures to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Create(output) => create::run(output.json.as_deref()),
        Bench::Burst(arguments) => burst::run(arguments),
        Bench::Exec(output) => exec::run(output.json.as_deref()),
        Bench::Proxy(output) => proxy::run(output.json.as_deref()),
        Bench::Snapshot(output) => snapshot::run(output.json.as_deref()),
    }
}

/// Where the figures were taken.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    engine: Value,
    processor: String,
    cpus: usize,
    memory_bytes: u64,
    kernel: String,
}

impl Machine {
    pub(super) fn here(product: &Product) -> Result<Self> {
        let doctor = setup::doctor_json(&product.binary)?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        Ok(Self {
            engine: doctor["engine"].clone(),
            processor: processor
                .unwrap_or("unknown")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned(),
            cpus: std::thread::available_parallelism()?.get(),
            memory_bytes: doctor["memory"]["total_bytes"].as_u64().unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
        })
    }
}

/// How one figure was distributed.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(mut samples: Vec<f64>) -> Result<Self> {
        ensure!(!samples.is_empty(), "nothing was measured");
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
        Ok(Self {
            min: at(0.0),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        })
    }
}

impl Machine {
    /// A line for people.
    fn print(&self) {
        let Self {
            engine,
            processor,
            cpus,
            memory_bytes,
            kernel,
        } = self;
        println!(
            "{} {} ({}), {cpus} CPUs of {processor}, {:.0} GiB, Linux {kernel}",
            engine["name"].as_str().unwrap_or_default(),
            engine["version"].as_str().unwrap_or_default(),
            engine["accelerator"].as_str().unwrap_or_default(),
            *memory_bytes as f64 / f64::from(1 << 30),
        );
        println!();
    }
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

/// A row of a Markdown table.
fn row(name: &str, spread: &Spread, unit: &str) {
    let Spread {
        min,
        p50,
        p95,
        p99,
        max,
    } = spread;
    println!("| {name} | {p50:.1} {unit} | {p95:.1} | {p99:.1} | {min:.1} to {max:.1} |");
}

/// Writes the figures to a file, if one is named.
fn write(json: Option<&Path>, figures: &impl Serialize) -> Result<()> {
    let Some(file) = json else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).context("cannot write the figures")?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn smaps_kib(pid: &Value, key: &str) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.context("no such line in smaps_rollup")?.parse()?)
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

/// How the server says the VM of a create came up.
fn how(timing: &str) -> &str {
    let how = timing
        .split(", ")
        .find_map(|entry| entry.strip_prefix("how;desc="));
    how.unwrap_or_default().trim_matches('"')
}
