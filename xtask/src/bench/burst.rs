//! Many sandboxes at once: from the create to the first command's success, as
//! public sandbox benchmarks measure it.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::process;
use super::report::{Bound, Curves, Findings, Line, Spread, Target};
use super::{Measure, how, id_of, milliseconds, served, total_of};
use crate::demo::api::Api;
use crate::demo::server::Server;
use crate::setup::Product;

/// Between two creates that are staggered.
const STAGGER: Duration = Duration::from_millis(200);

/// The part of the samples that is left out at either end, so that one hiccup
/// of a shared machine is not the figure.
const TRIMMED: f64 = 0.05;

/// Small, so that a hundred fit: what a shape costs is what its guest touches.
const SHAPE: &str = "1c-512m-1024d";

/// Longest until the seed of [`SHAPE`] is there.
const SEEDED: Duration = Duration::from_secs(180);

/// First commands whose processor time is taken.
const ALONE: usize = 10;

/// How often is looked meanwhile.
const POLL: Duration = Duration::from_millis(200);

/// Creates to the first command's success, in bursts.
#[derive(clap::Args)]
pub(crate) struct Burst {
    /// Sandboxes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Only in this order.
    #[arg(long)]
    only: Option<Order>,
}

impl Measure for Burst {
    fn measure(&self, product: &Product) -> Result<Findings> {
        let n = self.n as usize;
        let (mut bursts, alone) = served(product, &settings(n, n), |server| {
            let bursts = self.bursts(server, n)?;
            Ok((bursts, first_commands_alone(server, n)?))
        })?;
        let without = served(product, &settings(n, 0), |server| self.bursts(server, 0))?;
        bursts.extend(without);
        findings(n, bursts, alone)
    }
}

impl Burst {
    fn bursts(&self, server: &Server, pool: usize) -> Result<Vec<Outcome>> {
        seed(&server.api()?)?;
        let orders = Order::ALL.into_iter();
        let orders = orders.filter(|order| self.only.is_none_or(|only| only == *order));
        orders
            .map(|order| {
                server.api()?.wait_prepared(SHAPE, pool)?;
                burst(server, order, self.n as usize, pool)
            })
            .collect()
    }
}

/// When the creates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Each after the one before has run its command and is gone.
    Sequential,
    /// One every 200 ms.
    Staggered,
    /// All of them.
    AtOnce,
}

impl Order {
    const ALL: [Self; 3] = [Self::Sequential, Self::Staggered, Self::AtOnce];

    fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Staggered => "staggered 200 ms",
            Self::AtOnce => "all at once",
        }
    }
}

/// What became of one burst.
struct Outcome {
    order: Order,
    /// VMs that were prepared before it began.
    pool: usize,
    ones: Vec<One>,
    errors: Vec<String>,
    /// From the first create to the last command's success.
    total_ms: f64,
}

fn settings(n: usize, pool: usize) -> String {
    // Room for those that are still being destroyed.
    let max_sandboxes = 2 * n + 10;
    // So many that no budget stands in the way.
    let memory = 1024 * (pool + 1);
    format!(
        "[limits]\nmax_sandboxes = {max_sandboxes}\nrequests_per_minute = 0\n\
         [pool]\nkeep = {pool}\nmax_prepared = {pool}\nmax_memory_mib = {memory}\n"
    )
}

fn body() -> Value {
    json!({ "cpu_count": 1, "memory_mb": 512, "disk_mb": 1024 })
}

/// Lets the shape be seeded: the first sandbox of it boots cold.
fn seed(api: &Api) -> Result<()> {
    let deadline = Instant::now() + SEEDED;
    loop {
        let (sandbox, timing) = api.create_timed(&body())?;
        api.destroy(id_of(&sandbox)?)?;
        if how(&timing) != "cold" {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no seed of {SHAPE} comes");
        thread::sleep(POLL);
    }
}

/// One create and its first command.
struct One {
    id: String,
    first_command_ms: f64,
    server_ms: f64,
    prepared: bool,
}

fn burst(server: &Server, order: Order, n: usize, pool: usize) -> Result<Outcome> {
    let apis = (0..n).map(|_| server.api()).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let outcomes: Vec<Result<One>> = match order {
        Order::Sequential => apis
            .iter()
            .map(|api| {
                let one = one(api)?;
                api.destroy(&one.id)?;
                Ok(one)
            })
            .collect(),
        Order::Staggered => side_by_side(&apis, STAGGER),
        Order::AtOnce => side_by_side(&apis, Duration::ZERO),
    };
    let total_ms = milliseconds(started);
    let (mut ones, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(one) => ones.push(one),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if order != Order::Sequential {
        for one in &ones {
            apis[0].destroy(&one.id)?;
        }
    }
    ensure!(!ones.is_empty(), "none succeeded: {}", errors.join("; "));
    Ok(Outcome {
        order,
        pool,
        ones,
        errors,
        total_ms,
    })
}

/// Processor time that a prepared VM takes for its claim and its first command
/// when nothing runs beside it, in milliseconds.
fn first_commands_alone(server: &Server, pool: usize) -> Result<Vec<f64>> {
    let api = server.api()?;
    let mut taken = Vec::new();
    for _ in 0..ALONE {
        // Then none is being restored, and they stand still or idle.
        api.wait_prepared(SHAPE, pool)?;
        let before = processor_times(&server.data_dir())?;
        let one = one(&api)?;
        ensure!(one.prepared, "it came up otherwise than from the pool");
        let after = processor_times(&server.data_dir())?;
        let took = |(pid, before): (&u32, &f64)| Some(after.get(pid)? - before);
        // The one that was given out took most.
        taken.push(before.iter().filter_map(took).fold(0.0, f64::max));
        api.destroy(&one.id)?;
    }
    Ok(taken)
}

/// What each VMM has had of the processor so far, in milliseconds.
fn processor_times(data_dir: &Path) -> Result<BTreeMap<u32, f64>> {
    let vmms = process::vmms(data_dir)?;
    // One that is being destroyed may end meanwhile.
    let times = vmms.iter().map(|vmm| {
        let time = process::processor_ms(vmm.pid).ok()?;
        Some((vmm.pid, time))
    });
    Ok(times.flatten().collect())
}

fn side_by_side(apis: &[Api], pause: Duration) -> Vec<Result<One>> {
    thread::scope(|scope| {
        let mut running = Vec::new();
        for api in apis {
            running.push(scope.spawn(|| one(api)));
            // Not a wait for anything: the distance is what is measured.
            thread::sleep(pause);
        }
        let outcomes = running.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(_panic) => Err(anyhow::anyhow!("a client panicked")),
        });
        outcomes.collect()
    })
}

fn one(api: &Api) -> Result<One> {
    let started = Instant::now();
    let (mut sandbox, timing) = api.create_timed(&body())?;
    let id = id_of(&sandbox)?.to_owned();
    // It answers before it is ready when that takes long.
    while sandbox["state"] == "provisioning" {
        thread::sleep(POLL);
        sandbox = api.get(&format!("/sandboxes/{id}"))?;
    }
    api.exec_ok(&id, "true")?;
    Ok(One {
        id,
        first_command_ms: milliseconds(started),
        server_ms: total_of(&timing)?,
        prepared: how(&timing) == "prepared",
    })
}

/// In order, without the quickest and the slowest.
fn trim(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    let cut = (samples.len() as f64 * TRIMMED) as usize;
    samples[cut..samples.len() - cut].to_vec()
}

impl Outcome {
    /// For a row or a line.
    fn name(&self) -> String {
        let pool = match self.pool {
            0 => "no pool".to_owned(),
            pool => format!("pool of {pool}"),
        };
        format!("{}, {pool}", self.order.name())
    }

    fn first_commands(&self) -> Vec<f64> {
        trim(self.ones.iter().map(|one| one.first_command_ms).collect())
    }

    /// What had its first command after how long.
    fn line(&self) -> Line {
        let mut times: Vec<f64> = self.ones.iter().map(|one| one.first_command_ms).collect();
        times.sort_by(f64::total_cmp);
        let share = 100.0 / times.len() as f64;
        let points = times.into_iter().enumerate();
        Line {
            name: self.name(),
            points: points
                .map(|(place, time)| ((place + 1) as f64 * share, time))
                .collect(),
        }
    }
}

fn findings(n: usize, bursts: Vec<Outcome>, alone: Vec<f64>) -> Result<Findings> {
    let mut found = Findings::of(format!("{n} sandboxes of {SHAPE}, 5 % trimmed"));
    for burst in &bursts {
        let name = format!("{}: create to first command", burst.name());
        found.spread(name, "ms", burst.first_commands())?;
    }
    for burst in &bursts {
        let name = format!("{}: create, on the server", burst.name());
        let server = burst.ones.iter().map(|one| one.server_ms).collect();
        found.spread(name, "ms", trim(server))?;
    }
    for burst in &bursts {
        let Outcome {
            ones,
            errors,
            total_ms,
            ..
        } = burst;
        let name = burst.name();
        found.one(format!("{name}: total"), "s", total_ms / 1000.0);
        found.count(format!("{name}: success"), ones.len(), n);
        let prepared = ones.iter().filter(|one| one.prepared).count();
        found.count(format!("{name}: from the pool"), prepared, n);
        for error in errors {
            found.notes.push(format!("{name}: {error}"));
        }
    }
    let mean = alone.iter().sum::<f64>() / alone.len() as f64;
    let name = "processor time of a VMM for claim and first command, alone (floor)";
    found.spread(name, "ms of a processor", alone)?;
    found.targets = targets(n, &bursts, mean * n as f64)?;
    // What a pool saves is so much that one picture would show only one of both.
    let (with, without): (Vec<_>, Vec<_>) = bursts.iter().partition(|burst| burst.pool > 0);
    found.curves = [("with a pool", with), ("without", without)]
        .into_iter()
        .map(|(pool, bursts)| Curves {
            title: format!("create to first command, {pool}"),
            x: format!("% of {n} sandboxes that have run theirs"),
            y: "ms".to_owned(),
            lines: bursts.into_iter().map(Outcome::line).collect(),
        })
        .collect();
    Ok(found)
}

/// Of the bursts at once; `processor_ms` is what all first commands take of a
/// processor when each comes alone.
fn targets(n: usize, bursts: &[Outcome], processor_ms: f64) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for burst in bursts.iter().filter(|burst| burst.order == Order::AtOnce) {
        let name = burst.name();
        targets.push(Target::new(
            format!("{name}: success"),
            Bound::AtLeast(n as f64),
            "",
            burst.ones.len() as f64,
        ));
        if burst.pool == 0 {
            continue;
        }
        let Spread { p50, p95, .. } = Spread::of(burst.first_commands())?;
        targets.push(
            Target::new(
                format!("{name}: p95 / p50"),
                Bound::AtMost(3.0),
                "",
                p95 / p50,
            )
            .beside(format!("p50: {p50:.1} ms")),
        );
        targets.push(
            Target::new(
                format!("{name}: total / processor time of {n} first commands"),
                Bound::AtMost(1.3),
                "",
                burst.total_ms / processor_ms,
            )
            .beside(format!(
                "{n} VMMs, each alone: {:.1} s of a processor",
                processor_ms / 1000.0
            )),
        );
    }
    Ok(targets)
}
