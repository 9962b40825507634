//! The test programs that cargo builds, some at a time.
//!
//! `cargo test` runs one after the other, and most of the long ones wait for a
//! VM that keeps one core busy.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Slow;
use crate::build;
use crate::command::{self, cargo, root};

/// Programs at work at a time: the VMs of one keep a core busy, and tests of
/// what takes how long do not survive much more.
const LANES: usize = 2;

/// Those that take minutes begin first.
const LONGEST: [&str; 3] = [OUTSIDE, "snapshots", "conformance"];

/// The one with tests that take many minutes.
const OUTSIDE: &str = "outside";

/// One test program.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    executable: PathBuf,
    /// Where cargo would run it.
    directory: PathBuf,
}

/// What is read of cargo's messages.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds them all, those that take longest first.
pub(super) fn build(agent: &Path) -> Result<Vec<Program>> {
    let mut build = cargo();
    build.args(["test", "--workspace", "--no-run"]);
    build.arg("--message-format=json-render-diagnostics");
    let messages = command::output(build::carry(&mut build, agent))?;
    let mut programs = Vec::new();
    for line in messages.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let message: Message = serde_json::from_slice(line).context("a message of cargo's")?;
        programs.extend(program(message));
    }
    let place = |program: &Program| LONGEST.iter().position(|name| *name == program.name);
    programs.sort_by_key(|program| place(program).unwrap_or(LONGEST.len()));
    Ok(programs)
}

fn program(message: Message) -> Option<Program> {
    let built = message.reason == "compiler-artifact" && message.profile?.test;
    let executable = message.executable.filter(|_| built)?;
    Some(Program {
        name: message.target?.name,
        executable,
        directory: message.manifest_path?.parent()?.to_owned(),
    })
}

/// Runs them all, also after a failure; what each has written is shown when it
/// has ended.
pub(super) fn run(
    programs: Vec<Program>,
    environment: &[(&str, &OsStr)],
    slow: Slow,
) -> Result<()> {
    let waiting = Mutex::new(VecDeque::from(programs));
    let failed = Mutex::new(Vec::new());
    let next = || lock(&waiting).pop_front();
    let lane = || {
        while let Some(program) = next() {
            if let Err(error) = program.run(environment, slow) {
                eprintln!("error: {}: {error:#}", program.name);
                lock(&failed).push(program.name);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(lane);
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("tests failed: {}", failed.join(", "));
    }
    Ok(())
}

impl Program {
    fn run(&self, environment: &[(&str, &OsStr)], slow: Slow) -> Result<()> {
        let logs = root().join("target/tests");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let file = self.executable.file_name().unwrap_or_default();
        let log = logs.join(file).with_extension("log");
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        eprintln!("$ {}", self.name);
        let begun = Instant::now();
        // Elsewhere what is ignored is no test of its own.
        let all = (slow == Slow::Run && self.name == OUTSIDE).then_some("--include-ignored");
        let status = Command::new(&self.executable)
            .args(all)
            .current_dir(&self.directory)
            .env("CARGO_MANIFEST_DIR", &self.directory)
            .envs(environment.iter().copied())
            .stderr(output.try_clone().context("share the log")?)
            .stdout(output)
            .status()
            .with_context(|| format!("run {}", self.executable.display()))?;
        let written = fs::read(&log).with_context(|| format!("read {}", log.display()))?;
        let took = begun.elapsed().as_secs_f64();
        // One piece, so that two of them do not mix.
        let written = String::from_utf8_lossy(&written);
        eprintln!("{}: {took:.1} s\n{written}", self.name);
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
