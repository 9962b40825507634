//! How long a snapshot stops its guest, beside writing as many bytes to the
//! same disk, and how long a resume takes, beside a create from the seed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Machine, Spread, end, milliseconds, row, write};
use crate::demo::api::Api;
use crate::demo::server::Server;
use crate::setup;

/// Turns that count.
const TURNS: usize = 30;

/// Turns before: the first create of a server reads the seed from the disk.
const WARM_UP: usize = 2;

const MIB: f64 = 1_048_576.0;

/// What `bench snapshot` found.
#[derive(Debug, Serialize)]
struct Figures {
    machine: Machine,
    turns: usize,
    /// The guest's own pages in the snapshot.
    memory_mib: Spread,
    /// To write as much to the server's disk, synced.
    write_ms: Spread,
    /// From the hold of the guest's first process to the release of all.
    stopped_ms: Spread,
    /// The whole request.
    snapshot_ms: Spread,
    create_ms: Spread,
    resume_ms: Spread,
}

/// Measures.
pub(super) fn run(json: Option<&Path>) -> Result<()> {
    let product = setup::run()?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let mut server = Server::new(&product.binary, directory.path());
    server.start()?;
    let figures = measure(&server, Machine::here(&product)?);
    if figures.is_err() {
        server.show_log();
    }
    end(&mut server)?;
    let figures = figures?;
    print(&figures);
    write(json, &figures)
}

fn measure(server: &Server, machine: Machine) -> Result<Figures> {
    let api = server.api()?;
    for _ in 0..WARM_UP {
        Turn::take(&api, &server.data_dir())?;
    }
    let turns: Result<Vec<_>> = (0..TURNS)
        .map(|_| Turn::take(&api, &server.data_dir()))
        .collect();
    let turns = turns?;
    let spread = |of: fn(&Turn) -> f64| Spread::of(turns.iter().map(of).collect());
    Ok(Figures {
        machine,
        turns: TURNS,
        memory_mib: spread(|turn| turn.memory_bytes as f64 / MIB)?,
        write_ms: spread(|turn| turn.write_ms)?,
        stopped_ms: spread(|turn| turn.stopped_ms)?,
        snapshot_ms: spread(|turn| turn.snapshot_ms)?,
        create_ms: spread(|turn| turn.create_ms)?,
        resume_ms: spread(|turn| turn.resume_ms)?,
    })
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
        let id = sandbox["id"].as_str().context("a sandbox without an id")?;
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

fn print(figures: &Figures) {
    figures.machine.print();
    println!("| measure ({} turns) | p50 | p95 | range |", figures.turns);
    println!("|---|---|---|---|");
    for (name, spread, unit) in [
        (
            "pages an idle sandbox has written",
            figures.memory_mib,
            "MiB",
        ),
        (
            "write as much to this disk, synced (floor)",
            figures.write_ms,
            "ms",
        ),
        ("the guest stands still", figures.stopped_ms, "ms"),
        ("snapshot over HTTP", figures.snapshot_ms, "ms"),
        ("create to ready over HTTP (floor)", figures.create_ms, "ms"),
        ("resume over HTTP", figures.resume_ms, "ms"),
    ] {
        row(name, &spread, unit);
    }
    println!();
    println!("| target | wanted | reached |");
    println!("|---|---|---|");
    println!(
        "| standing still / writing, p50 | ≤ 2 | {:.2} |",
        figures.stopped_ms.p50 / figures.write_ms.p50
    );
    println!(
        "| resume / create, p50 | ≤ 1.3 | {:.2} |",
        figures.resume_ms.p50 / figures.create_ms.p50
    );
}
