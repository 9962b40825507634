//! How long a snapshot stops its guest, beside writing as many bytes to the
//! same disk, and how long a resume takes, beside a create from the seed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::report::{Bound, Findings, Target};
use super::{Measure, ON_DEMAND, id_of, milliseconds, served};
use crate::demo::api::Api;
use crate::demo::server::Server;
use crate::setup::Product;

/// Turns before those that count: the first create of a server reads the seed
/// from the disk.
const WARM_UP: usize = 2;

const MIB: f64 = 1_048_576.0;

/// Snapshots of idle sandboxes, and resumes.
#[derive(clap::Args)]
pub(crate) struct Snapshot {
    /// Sandboxes, each with a snapshot, a pause and a resume.
    #[arg(long, default_value_t = 30)]
    turns: usize,
}

impl Measure for Snapshot {
    fn measure(&self, product: &Product) -> Result<Findings> {
        // A resume is a restore on demand too.
        served(product, ON_DEMAND, |server| measure(server, self.turns))
    }
}

fn measure(server: &Server, turns: usize) -> Result<Findings> {
    let api = server.api()?;
    for _ in 0..WARM_UP {
        Turn::take(&api, &server.data_dir())?;
    }
    let taken: Result<Vec<_>> = (0..turns)
        .map(|_| Turn::take(&api, &server.data_dir()))
        .collect();
    let taken = taken?;
    let all = |of: fn(&Turn) -> f64| -> Vec<f64> { taken.iter().map(of).collect() };

    let mut found = Findings::of(format!("{turns} turns"));
    let pages = all(|turn| turn.memory_bytes as f64 / MIB);
    found.spread("pages an idle sandbox has written", "MiB", pages)?;
    let written = "write as much to this disk, synced (floor)";
    let written = found.spread(written, "ms", all(|turn| turn.write_ms))?;
    let stopped = all(|turn| turn.stopped_ms);
    let stopped = found.against(&written, "the guest stands still", stopped)?;
    let snapshot = all(|turn| turn.snapshot_ms);
    found.against(&written, "snapshot over HTTP", snapshot)?;
    let created = "create to ready over HTTP (floor)";
    let created = found.spread(created, "ms", all(|turn| turn.create_ms))?;
    let resumed = all(|turn| turn.resume_ms);
    let resumed = found.against(&created, "resume over HTTP", resumed)?;
    found.targets = vec![
        Target::new(
            "snapshot: standing still / writing, p50",
            Bound::AtMost(2.0),
            "",
            stopped.over(&written),
        )
        .beside(written.as_floor()),
        Target::new(
            "resume / create, p50",
            Bound::AtMost(1.3),
            "",
            resumed.over(&created),
        )
        .beside(created.as_floor()),
    ];
    Ok(found)
}

/// One sandbox: made, idle, written down twice, brought back.
struct Turn {
    memory_bytes: u64,
    write_ms: f64,
    stopped_ms: f64,
    snapshot_ms: f64,
    create_ms: f64,
    resume_ms: f64,
}

impl Turn {
    fn take(api: &Api, data_dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let sandbox = api.create(&json!({ "timeout_sec": 3600 }))?;
        let create_ms = milliseconds(began);
        let id = id_of(&sandbox)?;
        let path = format!("/sandboxes/{id}");
        api.exec(id, "true")?;

        let began = Instant::now();
        let snapshot = api.post(&format!("{path}/snapshots"), &json!({}))?;
        let snapshot_ms = milliseconds(began);
        let snapshot: &Value = snapshot.get("data").unwrap_or(&snapshot);
        let stopped_ms = snapshot["stopped_ms"].as_f64();
        let name = snapshot["id"]
            .as_str()
            .context("a snapshot without an id")?;
        let pages = data_dir.join("snapshots").join(name).join("memory");
        let pages = fs::read(&pages).with_context(|| format!("{}", pages.display()))?;
        let write_ms = time_to_write(&pages, &data_dir.join("bench"))?;

        api.post(&format!("{path}/pause"), &json!({}))?;
        let began = Instant::now();
        api.post(&format!("{path}/resume"), &json!({}))?;
        let resume_ms = milliseconds(began);
        api.destroy(id)?;
        Ok(Self {
            memory_bytes: pages.len() as u64,
            write_ms,
            stopped_ms: stopped_ms.context("a snapshot that says not how long")?,
            snapshot_ms,
            create_ms,
            resume_ms,
        })
    }
}

fn time_to_write(bytes: &[u8], path: &Path) -> Result<f64> {
    let written = || -> std::io::Result<f64> {
        let began = Instant::now();
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let took = milliseconds(began);
        fs::remove_file(path)?;
        Ok(took)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
