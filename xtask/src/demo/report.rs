//! What was done and how long it took, for people and as JSON.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

/// The record of one demonstration.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What runs the sandboxes: the name of their VMMs' processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    total_ms: f64,
    /// From sending the create request to the answer that says ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    create_to_ready_ms: Option<f64>,
    /// What the sandbox's record says.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_path: Option<String>,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    ms: f64,
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            ok: false,
            error: None,
            engine: None,
            total_ms: 0.0,
            create_to_ready_ms: None,
            boot_ms: None,
            boot_path: None,
            steps: Vec::new(),
        }
    }

    /// Runs one step and prints it with its time.
    pub(crate) fn step<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let outcome = act();
        let elapsed = started.elapsed();
        let mark = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{:>9}  {mark:<6} {name}", human(elapsed));
        self.steps.push(Step {
            name: name.to_owned(),
            ms: milliseconds(elapsed),
            ok: outcome.is_ok(),
            notes: Vec::new(),
        });
        outcome.with_context(|| format!("step {name:?}"))
    }

    /// Adds what the last step showed.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        println!("{:>18} {note}", "");
        if let Some(step) = self.steps.last_mut() {
            step.notes.push(note);
        }
    }

    /// What runs the sandboxes.
    pub(crate) fn engine(&mut self, vmm: &str) {
        self.engine = Some(vmm.to_owned());
        self.note(format!("engine: {vmm}"));
    }

    /// The two times the product is about; those of the first sandbox stand
    /// for all.
    pub(crate) fn created(&mut self, create_to_ready: Duration, boot_ms: u64, boot_path: &str) {
        if self.create_to_ready_ms.is_none() {
            self.create_to_ready_ms = Some(milliseconds(create_to_ready));
            self.boot_ms = Some(boot_ms);
            self.boot_path = Some(boot_path.to_owned());
        }
        self.note(format!(
            "create to ready {:.1} ms, boot {boot_ms} ms, by {boot_path}",
            milliseconds(create_to_ready)
        ));
    }

    /// Closes the record and prints the verdict.
    pub(crate) fn finish(&mut self, total: Duration, error: Option<&anyhow::Error>) {
        self.ok = error.is_none();
        self.error = error.map(|error| format!("{error:#}"));
        self.total_ms = milliseconds(total);
        if self.ok {
            println!("{:>9}  all of it worked", human(total));
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("the report is not JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

fn human(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        format!("{:.1} ms", milliseconds(duration))
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
