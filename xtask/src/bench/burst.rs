//! Many sandboxes at once: from the create to the first command's success, as
//! public sandbox benchmarks measure it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Machine, Output, Spread, end, how, milliseconds, steps, write};
use crate::demo::api::Api;
use crate::demo::server::Server;
use crate::setup;

/// Between two creates that are staggered.
const STAGGER: Duration = Duration::from_millis(200);

/// The part of the samples that is left out at either end, so that one hiccup
/// of a shared machine is not the figure.
const TRIMMED: f64 = 0.05;

/// Small, so that a hundred fit: what a shape costs is what its guest touches.
const SHAPE: &str = "1c-512m-1024d";

/// Longest until the seed of [`SHAPE`] is there.
const SEEDED: Duration = Duration::from_secs(180);

/// How often is looked meanwhile.
const POLL: Duration = Duration::from_millis(200);

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Sandboxes.
    #[arg(long, default_value_t = 100)]
    n: usize,
    /// Only in this order.
    #[arg(long)]
    only: Option<Order>,
    #[command(flatten)]
    output: Output,
}

/// When the creates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
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

/// What `bench burst` found.
#[derive(Debug, Serialize)]
struct Figures {
    machine: Machine,
    n: usize,
    shape: &'static str,
    bursts: Vec<Burst>,
}

#[derive(Debug, Serialize)]
struct Burst {
    order: Order,
    /// VMs that were prepared before it began.
    pool: usize,
    succeeded: usize,
    /// Creates that were answered by a prepared VM.
    from_pool: usize,
    /// Create to first successful command, as the client sees it; trimmed.
    first_command_ms: Spread,
    /// Create alone, as the server sees it; trimmed.
    create_server_ms: Spread,
    /// From the first create to the last command's success.
    total_ms: f64,
    errors: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.n > 0, "nothing to measure");
    let product = setup::run()?;
    let mut bursts = Vec::new();
    for pool in [arguments.n, 0] {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let config = settings(directory.path().join("emberbox.toml"), arguments.n, pool)?;
        let mut server = Server::new(&product.binary, directory.path()).with_config(&config);
        server.start()?;
        let measured = measure(&server, arguments, pool);
        if measured.is_err() {
            server.show_log();
        }
        end(&mut server)?;
        bursts.extend(measured?);
    }
    let figures = Figures {
        machine: Machine::here(&product)?,
        n: arguments.n,
        shape: SHAPE,
        bursts,
    };
    print(&figures);
    write(arguments.output.json.as_deref(), &figures)
}

fn settings(file: PathBuf, n: usize, pool: usize) -> Result<PathBuf> {
    // Room for those that are still being destroyed.
    let max_sandboxes = 2 * n + 10;
    // So many that no budget stands in the way.
    let memory = 1024 * (pool + 1);
    let text = format!(
        "[limits]\nmax_sandboxes = {max_sandboxes}\nrequests_per_minute = 0\n\
         [pool]\nkeep = {pool}\nmax_prepared = {pool}\nmax_memory_mib = {memory}\n"
    );
    fs::write(&file, text).context("cannot write the settings")?;
    Ok(file)
}

fn measure(server: &Server, arguments: &Arguments, pool: usize) -> Result<Vec<Burst>> {
    seed(&server.api()?)?;
    let orders = Order::ALL.into_iter();
    let orders = orders.filter(|order| arguments.only.is_none_or(|only| only == *order));
    orders
        .map(|order| {
            server.api()?.wait_prepared(SHAPE, pool)?;
            burst(server, order, arguments.n, pool)
        })
        .collect()
}

fn body() -> Value {
    json!({ "cpu_count": 1, "memory_mb": 512, "disk_mb": 1024 })
}

/// Lets the shape be seeded: the first sandbox of it boots cold.
fn seed(api: &Api) -> Result<()> {
    let deadline = Instant::now() + SEEDED;
    loop {
        let (sandbox, timing) = api.create_timed(&body())?;
        api.destroy(sandbox["id"].as_str().context("a sandbox without an id")?)?;
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

fn burst(server: &Server, order: Order, n: usize, pool: usize) -> Result<Burst> {
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
    let trimmed = |of: fn(&One) -> f64| Spread::of(trim(ones.iter().map(of).collect()));
    Ok(Burst {
        order,
        pool,
        succeeded: ones.len(),
        from_pool: ones.iter().filter(|one| one.prepared).count(),
        first_command_ms: trimmed(|one| one.first_command_ms)?,
        create_server_ms: trimmed(|one| one.server_ms)?,
        total_ms,
        errors,
    })
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
    let id = sandbox["id"].as_str().context("a sandbox without an id")?;
    let id = id.to_owned();
    // It answers before it is ready when that takes long.
    while sandbox["state"] == "provisioning" {
        thread::sleep(POLL);
        sandbox = api.get(&format!("/sandboxes/{id}"))?;
    }
    api.exec_ok(&id, "true")?;
    let first_command_ms = milliseconds(started);
    let total = steps(&timing).into_iter().find(|(name, _)| name == "total");
    Ok(One {
        id,
        first_command_ms,
        server_ms: total.context("no total in Server-Timing")?.1,
        prepared: how(&timing) == "prepared",
    })
}

fn trim(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_by(f64::total_cmp);
    let cut = (samples.len() as f64 * TRIMMED) as usize;
    samples[cut..samples.len() - cut].to_vec()
}

fn print(figures: &Figures) {
    figures.machine.print();
    let Figures { n, shape, .. } = figures;
    println!("{n} sandboxes of {shape}, create to first successful command, 5 % trimmed:");
    println!();
    println!(
        "| order | prepared | success | from pool | median | p95 | p99 | create, server p50 | total |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for burst in &figures.bursts {
        let Spread { p50, p95, p99, .. } = burst.first_command_ms;
        println!(
            "| {} | {} | {}/{n} | {} | {p50:.1} ms | {p95:.1} | {p99:.1} | {:.1} ms | {:.1} s |",
            burst.order.name(),
            burst.pool,
            burst.succeeded,
            burst.from_pool,
            burst.create_server_ms.p50,
            burst.total_ms / 1000.0,
        );
        for error in &burst.errors {
            println!("error: {error}");
        }
    }
}
