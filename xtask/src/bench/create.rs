//! What a create, an exec and an idle sandbox cost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Machine, Spread, end, how, milliseconds, row, smaps_kib, steps, write};
use crate::command::{self, cargo, root};
use crate::demo::api::{Api, DEFAULT_SHAPE};
use crate::demo::server::Server;
use crate::setup::{self, Product};

/// Creates that are measured, as the target says.
const CREATES: usize = 50;
/// Execs per sandbox; the first is thrown away, it loads code.
const EXECS: usize = 5;
/// Spawns in the guest's own loop.
const SPAWNS: usize = 20;
/// Sandboxes alive at once when the server's own memory is read.
const CROWD: usize = 10;

/// The targets are in decimal megabytes.
const MIB_TO_MB: f64 = 1.048_576;

/// Nothing is prepared.
const ON_DEMAND: &str = "[limits]\nrequests_per_minute = 0\n[pool]\nmax_prepared = 0\n";

/// One VM is prepared, the next while nothing is measured.
const PREPARED: &str = "[limits]\nrequests_per_minute = 0\n[pool]\nkeep = 1\nmax_prepared = 1\n";

/// What `bench create` found, in milliseconds and MiB.
#[derive(Debug, Serialize)]
struct Figures {
    machine: Machine,
    samples: usize,
    floor_ms: Spread,
    create_ms: Spread,
    /// What the server says of its VMM's start to the claimed guest.
    boot_ms: Spread,
    create_to_floor: f64,
    /// Where the time of a create goes on the server, p50 of each step.
    create_steps_ms: Vec<(String, f64)>,
    /// A create that is answered by a prepared VM, as the client sees it.
    prepared_ms: Spread,
    /// The same from the request's arrival to its answer.
    prepared_server_ms: Spread,
    prepared_server_to_floor: f64,
    prepared_steps_ms: Vec<(String, f64)>,
    /// A create that is answered by a prepared VM and its first `true`.
    prepared_and_exec_ms: Spread,
    prepared_and_exec_to_floor: f64,
    exec_ms: Spread,
    guest_spawn_ms: Spread,
    exec_over_spawn_ms: f64,
    /// Alone on the host: what sandboxes share counts as its own.
    lone_pss_mib: Spread,
    /// One of [`CROWD`].
    sandbox_pss_mib: Spread,
    sandbox_disk_mib: Spread,
    server_rss_mib: f64,
}

/// Create-to-ready over HTTP beside a restore by hand, the exec round trip
/// beside the guest's own spawn, and what sandboxes and server cost.
pub(super) fn run(json: Option<&Path>) -> Result<()> {
    let product = setup::run()?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let mut floor = Floor::start(&product, &directory.path().join("floor"))?;
    let mut server = start(&product, &directory.path().join("on-demand"), ON_DEMAND)?;
    let mut with_pool = start(&product, &directory.path().join("prepared"), PREPARED)?;
    let figures = measure(&mut floor, &server, &with_pool, Machine::here(&product)?);
    if figures.is_err() {
        server.show_log();
        with_pool.show_log();
    }
    end(&mut server)?;
    end(&mut with_pool)?;
    floor.stop()?;
    let figures = figures?;
    print(&figures);
    write(json, &figures)
}

fn start(product: &Product, directory: &Path, settings: &str) -> Result<Server> {
    fs::create_dir(directory).context("cannot make a directory")?;
    let config = directory.join("emberbox.toml");
    fs::write(&config, settings).context("cannot write the settings")?;
    let mut server = Server::new(&product.binary, directory).with_config(&config);
    server.start()?;
    Ok(server)
}

fn measure(
    floor: &mut Floor,
    server: &Server,
    with_pool: &Server,
    machine: Machine,
) -> Result<Figures> {
    let (api, pool) = (server.api()?, with_pool.api()?);
    let mut taken = Taken::default();
    // The first of each loads what all later ones share.
    floor.once()?;
    once(&api, server, &mut Taken::default())?;
    prepared_once(&pool, &mut Taken::default())?;
    for _ in 0..CREATES {
        taken.floor.push(floor.once()?);
        once(&api, server, &mut taken)?;
        prepared_once(&pool, &mut taken)?;
    }
    let crowd = crowd(&api, server)?;
    let (floor_ms, create_ms) = (Spread::of(taken.floor)?, Spread::of(taken.create)?);
    let prepared_server_ms = Spread::of(taken.prepared_server)?;
    let prepared_and_exec_ms = Spread::of(taken.prepared_and_exec)?;
    let (exec_ms, guest_spawn_ms) = (Spread::of(taken.exec)?, Spread::of(taken.spawn)?);
    Ok(Figures {
        machine,
        samples: CREATES,
        floor_ms,
        create_ms,
        boot_ms: Spread::of(taken.boot)?,
        create_to_floor: create_ms.p50 / floor_ms.p50,
        create_steps_ms: taken.steps.medians()?,
        prepared_ms: Spread::of(taken.prepared)?,
        prepared_server_ms,
        prepared_server_to_floor: prepared_server_ms.p50 / floor_ms.p50,
        prepared_steps_ms: taken.prepared_steps.medians()?,
        prepared_and_exec_ms,
        prepared_and_exec_to_floor: prepared_and_exec_ms.p50 / floor_ms.p50,
        exec_ms,
        guest_spawn_ms,
        exec_over_spawn_ms: exec_ms.p50 - guest_spawn_ms.p50,
        lone_pss_mib: Spread::of(taken.pss)?,
        sandbox_pss_mib: Spread::of(crowd.pss)?,
        sandbox_disk_mib: Spread::of(taken.disk)?,
        server_rss_mib: crowd.server_rss,
    })
}

/// Samples, in milliseconds and MiB.
#[derive(Default)]
struct Taken {
    floor: Vec<f64>,
    create: Vec<f64>,
    boot: Vec<f64>,
    steps: Steps,
    prepared: Vec<f64>,
    prepared_server: Vec<f64>,
    prepared_steps: Steps,
    prepared_and_exec: Vec<f64>,
    exec: Vec<f64>,
    spawn: Vec<f64>,
    pss: Vec<f64>,
    disk: Vec<f64>,
}

/// The durations of each step, by its place and name.
#[derive(Default)]
struct Steps(BTreeMap<(usize, String), Vec<f64>>);

impl Steps {
    fn add(&mut self, timing: &str) {
        for (place, (name, duration)) in steps(timing).into_iter().enumerate() {
            self.0.entry((place, name)).or_default().push(duration);
        }
    }

    fn medians(self) -> Result<Vec<(String, f64)>> {
        let steps = self.0.into_iter();
        steps
            .map(|((_, name), durations)| Ok((name, Spread::of(durations)?.p50)))
            .collect()
    }
}

/// One sandbox that gets a prepared VM, and its first command.
fn prepared_once(api: &Api, taken: &mut Taken) -> Result<()> {
    api.wait_prepared(DEFAULT_SHAPE, 1)?;
    let started = Instant::now();
    let (sandbox, timing) = api.create_timed(&json!({}))?;
    taken.prepared.push(milliseconds(started));
    let id = sandbox["id"].as_str().context("a sandbox without an id")?;
    api.exec_ok(id, "true")?;
    taken.prepared_and_exec.push(milliseconds(started));
    ensure!(how(&timing) == "prepared", "it came up otherwise: {timing}");
    let total = steps(&timing).into_iter().find(|(name, _)| name == "total");
    let (_, total) = total.context("no total in Server-Timing")?;
    taken.prepared_server.push(total);
    taken.prepared_steps.add(&timing);
    api.destroy(id)?;
    // The next is prepared before anything else is measured.
    api.wait_prepared(DEFAULT_SHAPE, 1)
}

/// One sandbox: created, weighed before it did anything, used, destroyed.
fn once(api: &Api, server: &Server, taken: &mut Taken) -> Result<()> {
    let started = Instant::now();
    let (sandbox, timing) = api.create_timed(&json!({}))?;
    taken.create.push(milliseconds(started));
    taken.steps.add(&timing);
    ensure!(
        sandbox["ready"] == true,
        "not ready after create: {sandbox}"
    );
    ensure!(
        sandbox["boot_path"] == "snapshot",
        "not restored: {sandbox}"
    );
    let id = sandbox["id"].as_str().context("a sandbox without an id")?;
    taken
        .boot
        .push(sandbox["boot_ms"].as_f64().context("no boot_ms")?);
    for (pss, disk) in weigh(&server.data_dir())? {
        taken.pss.push(pss);
        taken.disk.push(disk);
    }
    for turn in 0..EXECS {
        let started = Instant::now();
        api.exec_ok(id, "true")?;
        if turn > 0 {
            taken.exec.push(milliseconds(started));
        }
    }
    let spawn = api.exec_ok(id, &spawn_loop())?;
    taken.spawn.push(
        spawn
            .parse::<f64>()
            .with_context(|| format!("the guest said {spawn:?}"))?,
    );
    api.destroy(id).map(drop)
}

/// What starting the same shell for the same command takes from inside: the
/// least any exec can take. Prints milliseconds per start.
fn spawn_loop() -> String {
    format!(
        "/bin/bash -c true; t=${{EPOCHREALTIME/./}}; \
         for i in {{1..{SPAWNS}}}; do /bin/bash -c true; done; \
         echo $(( (${{EPOCHREALTIME/./}} - t) / {SPAWNS} )) | awk '{{print $1 / 1000}}'"
    )
}

/// Memory (PSS) and disk of every sandbox that runs, in MiB.
fn weigh(data_dir: &Path) -> Result<Vec<(f64, f64)>> {
    use std::os::unix::fs::MetadataExt;
    /// The unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    let vms = fs::read_dir(data_dir.join("vms")).context("no VM directory")?;
    vms.map(|vm| {
        let vm = vm?.path();
        let pid: Value = serde_json::from_slice(&fs::read(vm.join("vmm.pid"))?)?;
        let pss_kib = smaps_kib(&pid["pid"], "Pss:")?;
        let blocks = fs::metadata(vm.join("scratch.ext4"))?.blocks();
        Ok((
            pss_kib / 1024.0,
            (blocks * BLOCK) as f64 / f64::from(1 << 20),
        ))
    })
    .collect()
}

/// Many sandboxes at once, in MiB.
struct Crowd {
    /// Of each, before it did anything.
    pss: Vec<f64>,
    /// The server's own resident memory, after each ran a command.
    server_rss: f64,
}

fn crowd(api: &Api, server: &Server) -> Result<Crowd> {
    let mut ids = Vec::new();
    for _ in 0..CROWD {
        let sandbox = api.create(&json!({}))?;
        ids.push(
            sandbox["id"]
                .as_str()
                .context("a sandbox without an id")?
                .to_owned(),
        );
    }
    let weights = weigh(&server.data_dir())?;
    for id in &ids {
        api.exec_ok(id, "true")?;
    }
    let server_rss = smaps_kib(&json!(server.pid()?), "Rss:")? / 1024.0;
    for id in &ids {
        api.destroy(id)?;
    }
    Ok(Crowd {
        pss: weights.into_iter().map(|(pss, _disk)| pss).collect(),
        server_rss,
    })
}

/// The program that restores by hand.
struct Floor {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    fn start(product: &Product, data_dir: &Path) -> Result<Self> {
        command::run(cargo().args([
            "build",
            "--release",
            "--package",
            "emberbox-host",
            "--example",
            "floor",
        ]))?;
        fs::create_dir(data_dir).context("cannot make a directory")?;
        let mut child = Command::new(root().join("target/release/examples/floor"))
            .arg(data_dir)
            .env("EMBERBOX_HOME", &product.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the floor's program")?;
        let ask = child
            .stdin
            .take()
            .context("no pipe to the floor's program")?;
        let answers = child
            .stdout
            .take()
            .context("no pipe from the floor's program")?;
        Ok(Self {
            child,
            ask,
            answers: BufReader::new(answers),
        })
    }

    /// One restore, in milliseconds.
    fn once(&mut self) -> Result<f64> {
        writeln!(self.ask).context("the floor's program is gone")?;
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("the floor's program is gone")?;
        let microseconds: f64 = line.trim().parse().context("the floor's program failed")?;
        Ok(microseconds / 1000.0)
    }

    fn stop(mut self) -> Result<()> {
        drop(self.ask);
        let status = self
            .child
            .wait()
            .context("cannot wait for the floor's program")?;
        ensure!(status.success(), "the floor's program ended with {status}");
        Ok(())
    }
}

fn print(figures: &Figures) {
    figures.machine.print();
    println!(
        "| measure ({} turns) | p50 | p95 | p99 | range |",
        figures.samples
    );
    println!("|---|---|---|---|---|");
    row(
        "restore by hand to first answer (floor)",
        &figures.floor_ms,
        "ms",
    );
    row(
        "create to ready over HTTP, on demand",
        &figures.create_ms,
        "ms",
    );
    row("of it: VMM start to claimed guest", &figures.boot_ms, "ms");
    row(
        "create, prepared, as the client sees it",
        &figures.prepared_ms,
        "ms",
    );
    row("of it: on the server", &figures.prepared_server_ms, "ms");
    row(
        "create, prepared, and the first `exec true`",
        &figures.prepared_and_exec_ms,
        "ms",
    );
    row("`exec true` round trip", &figures.exec_ms, "ms");
    row(
        "the guest's own `bash -c true` (floor)",
        &figures.guest_spawn_ms,
        "ms",
    );
    row(
        "memory of an idle sandbox, alone on the host (PSS)",
        &figures.lone_pss_mib,
        "MiB",
    );
    row(
        &format!("memory of an idle sandbox, one of {CROWD} (PSS)"),
        &figures.sandbox_pss_mib,
        "MiB",
    );
    row("disk of an idle sandbox", &figures.sandbox_disk_mib, "MiB");
    println!();
    for (name, steps) in [
        ("on demand", &figures.create_steps_ms),
        ("prepared", &figures.prepared_steps_ms),
    ] {
        let steps: Vec<_> = steps
            .iter()
            .map(|(name, median)| format!("{name} {median:.2}"))
            .collect();
        println!(
            "Steps of a create {name} on the server, p50 in ms: {}.",
            steps.join(", ")
        );
        println!();
    }
    println!("| target | wanted | reached |");
    println!("|---|---|---|");
    println!(
        "| create on demand / floor, p50 | ≤ 1.15 | {:.2} |",
        figures.create_to_floor
    );
    println!(
        "| prepared create on the server, p50 | ≤ 3 ms | {:.1} ms |",
        figures.prepared_server_ms.p50
    );
    println!(
        "| the same, p99 | ≤ 15 ms | {:.1} ms |",
        figures.prepared_server_ms.p99
    );
    println!(
        "| the same / floor, p50 | ≤ 0.03 | {:.3} |",
        figures.prepared_server_to_floor
    );
    println!(
        "| prepared create and first `exec true` / floor, p50 | ≤ 0.1 | {:.2} |",
        figures.prepared_and_exec_to_floor
    );
    println!(
        "| exec − guest's own spawn, p50 | ≤ 2 ms | {:.1} ms |",
        figures.exec_over_spawn_ms
    );
    println!(
        "| idle sandbox, memory | ≤ 60 MB | {:.1} MB |",
        figures.sandbox_pss_mib.p50 * MIB_TO_MB
    );
    println!(
        "| idle sandbox, disk | ≤ 8 MB | {:.1} MiB |",
        figures.sandbox_disk_mib.p50
    );
    println!(
        "| server with {CROWD} sandboxes, RSS | ≤ 60 MB | {:.1} MiB |",
        figures.server_rss_mib
    );
}
