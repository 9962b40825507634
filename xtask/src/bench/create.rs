//! What a create, an exec and an idle sandbox cost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::floor::Floor;
use super::process::{self, Memory};
use super::report::{Bound, Findings, Spread, Target};
use super::{Measure, ON_DEMAND, PREPARED, how, id_of, milliseconds, served, steps, total_of};
use crate::demo::api::{Api, DEFAULT_SHAPE};
use crate::demo::server::Server;
use crate::setup::Product;

/// Execs per sandbox; the first is thrown away, it loads code.
const EXECS: usize = 5;
/// Spawns in the guest's own loop.
const SPAWNS: usize = 20;
/// Sandboxes alive at once when the server's own memory is read.
const CROWD: usize = 10;

/// The targets are in decimal megabytes.
const MIB_TO_MB: f64 = 1.048_576;

/// Create-to-ready over HTTP beside a restore by hand, the exec round trip
/// beside the guest's own spawn, and what sandboxes and server cost.
#[derive(clap::Args)]
pub(crate) struct Create {
    /// Creates of each kind.
    #[arg(long, default_value_t = 50)]
    turns: usize,
}

impl Measure for Create {
    fn measure(&self, product: &Product) -> Result<Findings> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let mut floor = Floor::start(product, &directory.path().join("floor"))?;
        let (taken, crowd) = served(product, ON_DEMAND, |server| {
            served(product, PREPARED, |with_pool| {
                let taken = take(&mut floor, server, with_pool, self.turns)?;
                Ok((taken, crowd(&server.api()?, server)?))
            })
        })?;
        floor.stop()?;
        taken.findings(self.turns, crowd)
    }
}

fn take(floor: &mut Floor, server: &Server, with_pool: &Server, turns: usize) -> Result<Taken> {
    let (api, pool) = (server.api()?, with_pool.api()?);
    let mut taken = Taken::default();
    // The first of each loads what all later ones share.
    pool.wait_prepared(DEFAULT_SHAPE, 1)?;
    api.wait_standing_by()?;
    pool.wait_standing_by()?;
    floor.once()?;
    once(&api, server, &mut Taken::default())?;
    prepared_once(&pool, &mut Taken::default())?;
    for _ in 0..turns {
        taken.floor.push(floor.once()?);
        once(&api, server, &mut taken)?;
        prepared_once(&pool, &mut taken)?;
    }
    Ok(taken)
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

impl Taken {
    /// Rows and targets of all of it.
    fn findings(self, turns: usize, crowd: Crowd) -> Result<Findings> {
        let mut found = Findings::of(format!("{turns} turns"));
        let restored = "restore by hand to first answer (floor)";
        let floor = found.spread(restored, "ms", self.floor)?;
        let create = "create to ready over HTTP, on demand";
        let create = found.against(&floor, create, self.create)?;
        let boot = "of it: VMM start to claimed guest";
        found.against(&floor, boot, self.boot)?;
        let prepared = "create, prepared, as the client sees it";
        found.against(&floor, prepared, self.prepared)?;
        let server = found.against(&floor, "of it: on the server", self.prepared_server)?;
        let first = "create, prepared, and the first `exec true`";
        let first = found.against(&floor, first, self.prepared_and_exec)?;
        let own = "the guest's own `/bin/true` (floor)";
        let spawn = found.spread(own, "ms", self.spawn)?;
        let exec = found.against(&spawn, "`exec true` round trip", self.exec)?;
        let lone = "memory of an idle sandbox, alone on the host (PSS)";
        found.spread(lone, "MiB", self.pss)?;
        let one_of = format!("memory of an idle sandbox, one of {CROWD} (PSS)");
        let memory = found.spread(one_of, "MiB", crowd.pss)?;
        let disk = found.spread("disk of an idle sandbox", "MiB", self.disk)?;
        let rss = format!("memory of the server with {CROWD} sandboxes (RSS)");
        found.one(&rss, "MiB", crowd.server_rss);
        found.notes = vec![
            self.steps.note("on demand")?,
            self.prepared_steps.note("prepared")?,
        ];
        let at_most =
            |measure, most, unit, reached| Target::new(measure, Bound::AtMost(most), unit, reached);
        let on_server = "create, prepared: on the server, p50";
        found.targets = vec![
            at_most(
                "create, on demand / floor, p50",
                1.15,
                "",
                create.over(&floor),
            )
            .beside(floor.as_floor()),
            at_most(on_server, 3.0, "ms", server.spread.p50),
            at_most("the same, p99", 15.0, "ms", server.spread.p99),
            at_most("the same / floor, p50", 0.03, "", server.over(&floor))
                .beside(floor.as_floor()),
            at_most(
                "create, prepared, and first `exec true` / floor, p50",
                0.1,
                "",
                first.over(&floor),
            )
            .beside(floor.as_floor()),
            at_most(
                "`exec true` over the guest's own spawn, p50",
                2.0,
                "ms",
                exec.spread.p50 - spawn.spread.p50,
            )
            .beside(spawn.as_floor()),
            at_most(
                "memory of an idle sandbox (PSS), p50",
                60.0,
                "MB",
                memory.spread.p50 * MIB_TO_MB,
            ),
            at_most(
                "disk of an idle sandbox, p50",
                8.0,
                "MB",
                disk.spread.p50 * MIB_TO_MB,
            ),
            at_most(&rss, 60.0, "MB", crowd.server_rss * MIB_TO_MB),
        ];
        Ok(found)
    }
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

    /// A sentence with the median of each.
    fn note(self, kind: &str) -> Result<String> {
        let steps = self.0.into_iter().map(|((_, name), durations)| {
            let median = Spread::of(durations)?.p50;
            Ok(format!("{name} {median:.2}"))
        });
        let steps = steps.collect::<Result<Vec<_>>>()?.join(", ");
        Ok(format!(
            "Steps of a create {kind} on the server, p50 in ms: {steps}."
        ))
    }
}

/// One sandbox that gets a prepared VM, and its first command.
fn prepared_once(api: &Api, taken: &mut Taken) -> Result<()> {
    api.wait_prepared(DEFAULT_SHAPE, 1)?;
    let started = Instant::now();
    let (sandbox, timing) = api.create_timed(&json!({}))?;
    taken.prepared.push(milliseconds(started));
    let id = id_of(&sandbox)?;
    api.exec_ok(id, "true")?;
    taken.prepared_and_exec.push(milliseconds(started));
    ensure!(how(&timing) == "prepared", "it came up otherwise: {timing}");
    taken.prepared_server.push(total_of(&timing)?);
    taken.prepared_steps.add(&timing);
    api.destroy(id)?;
    // The next is prepared before anything else is measured.
    api.wait_prepared(DEFAULT_SHAPE, 1)?;
    api.wait_standing_by()
}

/// One sandbox: created, weighed before it did anything, used, destroyed.
fn once(api: &Api, server: &Server, taken: &mut Taken) -> Result<()> {
    api.wait_standing_by()?;
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
    let id = id_of(&sandbox)?;
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
    api.destroy(id)?;
    api.wait_standing_by()
}

/// What starting the same program takes from inside: the least any exec can
/// take. Prints milliseconds per start.
fn spawn_loop() -> String {
    format!(
        "/bin/true; t=${{EPOCHREALTIME/./}}; \
         for i in {{1..{SPAWNS}}}; do /bin/true; done; \
         echo $(( (${{EPOCHREALTIME/./}} - t) / {SPAWNS} )) | awk '{{print $1 / 1000}}'"
    )
}

/// Memory (PSS) and disk of every sandbox that runs, in MiB.
fn weigh(data_dir: &Path) -> Result<Vec<(f64, f64)>> {
    /// The unit of `st_blocks` (stat(2)).
    const BLOCK: u64 = 512;
    let vmms = process::vmms(data_dir)?;
    vmms.iter()
        .map(|vmm| (vmm, vmm.directory.join("scratch.ext4")))
        // A VMM that only waits for a VM has none.
        .filter(|(_, scratch)| scratch.exists())
        .map(|(vmm, scratch)| {
            let blocks = fs::metadata(scratch)?.blocks();
            Ok((
                Memory::of(vmm.pid)?.pss_kib / 1024.0,
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
        ids.push(id_of(&sandbox)?.to_owned());
    }
    let weights = weigh(&server.data_dir())?;
    for id in &ids {
        api.exec_ok(id, "true")?;
    }
    let server_rss = Memory::of(server.pid()?)?.rss_kib / 1024.0;
    for id in &ids {
        api.destroy(id)?;
    }
    Ok(Crowd {
        pss: weights.into_iter().map(|(pss, _disk)| pss).collect(),
        server_rss,
    })
}
