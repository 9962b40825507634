//! Fuzz targets: what strangers' bytes go through first.
//!
//! The crate in `fuzz/` is laid out for `cargo fuzz`, which wants a nightly
//! compiler; coverage is all that is needed here, and the stable one has it.
//! No address sanitizer: what is looked at is safe Rust, where a bad index is a
//! panic.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{self, cargo, root};

/// What `cargo fuzz` builds with, but for the sanitizer.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// How long an input may take, in seconds: all of them take microseconds.
const TIMEOUT_SEC: u32 = 5;

/// How much memory a target may use, in MiB.
const MEMORY_MIB: u32 = 512;

/// How long each runs in `cargo xtask ci`.
const CI_SECONDS: u32 = 10;

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Only this one of `fuzz/fuzz_targets`.
    target: Option<String>,
}

/// Builds the targets and runs them at the same time.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut targets = targets()?;
    if let Some(target) = &arguments.target {
        ensure!(
            targets.contains(target),
            "there is no target {target}; there are {}",
            targets.join(", ")
        );
        targets = vec![target.clone()];
    }
    every(&targets, arguments.seconds)
}

/// Runs all of them for a short while.
pub(crate) fn briefly() -> Result<()> {
    every(&targets()?, CI_SECONDS)
}

fn every(targets: &[String], seconds: u32) -> Result<()> {
    let built = build()?;
    let fuzzed: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(|| fuzz(&built, target, seconds)))
            .collect();
        let ended = running.into_iter().map(|one| one.join());
        ended
            .map(|outcome| outcome.expect("a run does not panic"))
            .collect()
    });
    let mut failed = Vec::new();
    for (target, outcome) in targets.iter().zip(fuzzed) {
        match outcome {
            Ok(executions) => println!("{target}: {executions} inputs in {seconds} s"),
            Err(error) => {
                eprintln!("error: {target}: {error:#}");
                failed.push(target.as_str());
            }
        }
    }
    ensure!(failed.is_empty(), "fuzzing failed: {}", failed.join(", "));
    Ok(())
}

/// The names of the targets.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&directory).context("cannot read fuzz/fuzz_targets")? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        targets.push(name.context("a target without a name")?.to_owned());
    }
    targets.sort();
    Ok(targets)
}

/// Builds all of them; where they are.
fn build() -> Result<PathBuf> {
    // With `--target`, RUSTFLAGS do not reach build scripts, which have no
    // fuzzer to be linked with.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let directory = root().join("fuzz/target");
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    for flag in COVERAGE {
        flags.push(" ");
        flags.push(flag);
    }
    command::run(
        cargo()
            .args(["build", "--release", "--locked", "--bins"])
            .args(["--manifest-path", "fuzz/Cargo.toml", "--target", &target])
            .env("RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", &directory),
    )?;
    Ok(directory.join(target).join("release"))
}

/// Runs one target; how many inputs it was given.
fn fuzz(built: &Path, target: &str, seconds: u32) -> Result<u64> {
    let corpus = made("corpus", target)?;
    let artifacts = made("artifacts", target)?;
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(artifacts.join(""));
    let output = Command::new(built.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={TIMEOUT_SEC}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .args(["-print_final_stats=1", "-verbosity=1"])
        .arg(prefix)
        // What is found goes into the first.
        .arg(corpus)
        .arg(root().join("fuzz/seeds").join(target))
        .output()
        .context("cannot run it")?;
    let written = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "{}; the input is in {}\n{written}",
            output.status,
            artifacts.display()
        );
    }
    let executions = written
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executions = executions.context("it does not say how much it did")?;
    Ok(executions.trim().parse()?)
}

/// A directory of a target's own in `fuzz/`.
fn made(kind: &str, target: &str) -> Result<PathBuf> {
    let directory = root().join("fuzz").join(kind).join(target);
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory)
}
