//! Other ways to run a command in a box of its own, side by side in one run:
//! make the box, run the command, remove the box.
//!
//! Decides: who is compared, in what order, and what becomes of one that does
//! not run here: a row with its reason, never a row left out.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::floor::Floor;
use super::report::{Bound, Findings, Taken, Target};
use super::{Measure, ON_DEMAND, PREPARED, how, id_of, milliseconds, served};
use crate::demo::api::{Api, DEFAULT_SHAPE};
use crate::setup::{self, Product};

mod container;
mod root;

/// Everybody's turns.
#[derive(clap::Args)]
pub(crate) struct Peers {
    /// Boxes of each kind, for each command.
    #[arg(long, default_value_t = 20)]
    turns: usize,
}

/// What is run in the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    True,
    Python,
}

impl Job {
    const ALL: [Self; 2] = [Self::True, Self::Python];

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::True => &["true"],
            Self::Python => &["python3", "-c", "print(1+1)"],
        }
    }

    /// The same for a shell.
    fn line(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Python => "python3 -c 'print(1+1)'",
        }
    }

    /// What it writes.
    fn output(self) -> &'static str {
        match self {
            Self::True => "",
            Self::Python => "2",
        }
    }

    fn check(self, output: &str) -> Result<()> {
        ensure!(
            output.trim_end() == self.output(),
            "{} wrote {output:?}",
            self.line()
        );
        Ok(())
    }

    /// For a row.
    fn name(self) -> &'static str {
        match self {
            Self::True => "`true`",
            Self::Python => "`python3 -c \"print(1+1)\"`",
        }
    }
}

/// A way to run a command in a box.
trait Peer {
    /// Makes a box, runs the command in it, and removes the box.
    fn run(&mut self, job: Job) -> Result<Times>;
}

/// In milliseconds, from the request for the box.
struct Times {
    /// To the command's end, where that can be told apart.
    command: Option<f64>,
    /// To the removal's end.
    removed: f64,
}

/// A peer's place in the table.
struct Place<'a> {
    name: &'static str,
    whose: Whose,
    /// Or why it does not run.
    peer: Result<Box<dyn Peer + 'a>>,
    taken: Vec<(Job, Times)>,
}

/// Whether a peer may fail to run.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// That is a failure of the bench.
    Ours,
    /// That is a row with its reason.
    Theirs,
}

/// In the table, and in targets.
const EMBERBOX: &str = "Emberbox, prepared";
const GVISOR: &str = "gVisor: `runsc run`, ptrace platform";
const NAMESPACES: &str = "bubblewrap: namespaces alone (floor)";

impl Measure for Peers {
    fn measure(&self, product: &Product) -> Result<Findings> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let mut floor = Floor::start(product, &directory.path().join("floor"))?;
        let found = served(product, PREPARED, |with_pool| {
            served(product, ON_DEMAND, |on_demand| {
                let mut places = vec![
                    Place::ours(EMBERBOX, Sandboxes::new(with_pool.api()?, "prepared")),
                    Place::ours(
                        "Emberbox, on demand",
                        Sandboxes::new(on_demand.api()?, "on_demand"),
                    ),
                ];
                places.extend(boxes(product, directory.path()));
                let mut by_hand = Vec::new();
                // The first turn warms everything up, and shows who runs here.
                for turn in 0..=self.turns {
                    let restored = floor.once()?;
                    if turn > 0 {
                        by_hand.push(restored);
                    }
                    for place in &mut places {
                        place.take(turn > 0)?;
                    }
                }
                findings(
                    self.turns,
                    places,
                    by_hand,
                    &setup::doctor_json(&product.binary, &product.engine)?,
                )
            })
        })?;
        floor.stop()?;
        Ok(found)
    }
}

/// Those that are other people's programs; all of them start from the same
/// files that a sandbox does.
fn boxes<'a>(product: &Product, directory: &Path) -> Vec<Place<'a>> {
    let root = root::ensure(product);
    let kinds = [
        (container::Kind::Podman, "podman: `podman run` with crun"),
        (container::Kind::Crun, "crun: `crun run`"),
        (container::Kind::Runsc, GVISOR),
        (container::Kind::Bubblewrap, NAMESPACES),
    ];
    let places = kinds.into_iter().map(|(kind, name)| Place {
        name,
        whose: Whose::Theirs,
        peer: match &root {
            Ok(root) => container::Container::prepare(kind, root, directory)
                .map(|container| Box::new(container) as Box<dyn Peer>),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        },
        taken: Vec::new(),
    });
    places.collect()
}

impl<'a> Place<'a> {
    fn ours(name: &'static str, peer: impl Peer + 'a) -> Self {
        Self {
            name,
            whose: Whose::Ours,
            peer: Ok(Box::new(peer)),
            taken: Vec::new(),
        }
    }

    /// Its turn; one of others that fails has none any more.
    fn take(&mut self, counts: bool) -> Result<()> {
        let Ok(peer) = &mut self.peer else {
            return Ok(());
        };
        for job in Job::ALL {
            match (peer.run(job), self.whose) {
                (Ok(times), _) if counts => self.taken.push((job, times)),
                (Ok(_), _) => {}
                (Err(error), Whose::Ours) => return Err(error.context(self.name)),
                (Err(error), Whose::Theirs) => {
                    self.peer = Err(error);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn samples(&self, job: Job, of: fn(&Times) -> Option<f64>) -> Vec<f64> {
        let taken = self.taken.iter().filter(|(what, _)| *what == job);
        taken.filter_map(|(_, times)| of(times)).collect()
    }
}

fn findings(
    turns: usize,
    places: Vec<Place<'_>>,
    by_hand: Vec<f64>,
    doctor: &Value,
) -> Result<Findings> {
    let mut found = Findings::of(format!("{turns} turns"));
    let engine = doctor["engine"]["name"].as_str().unwrap_or_default();
    for (name, id, reason) in [
        (
            "plain QEMU restored by hand, to its first answer, without a command",
            "qemu",
            format!("the engine of this machine is {engine}"),
        ),
        (
            "plain Firecracker restored by hand, to its first answer, without a command",
            "firecracker",
            doctor["firecracker"]["reason"]
                .as_str()
                .unwrap_or("not usable")
                .to_owned(),
        ),
    ] {
        if engine == id {
            found.spread(name, "ms", by_hand.clone())?;
        } else {
            found.missing(name, reason);
        }
    }
    for job in Job::ALL {
        let rows = rows(&mut found, &places, job)?;
        found.targets.push(target(job, rows, &places));
    }
    Ok(found)
}

/// What a job took of the two that a target compares.
struct Rows {
    emberbox: Option<Taken>,
    gvisor: Option<Taken>,
}

fn rows(found: &mut Findings, places: &[Place<'_>], job: Job) -> Result<Rows> {
    let mut rows = Rows {
        emberbox: None,
        gvisor: None,
    };
    // The floor goes first: others stand beside it.
    let (floor, others): (Vec<_>, Vec<_>) =
        places.iter().partition(|place| place.name == NAMESPACES);
    let mut floor_taken: Option<Taken> = None;
    for place in floor.into_iter().chain(others) {
        let name = format!("{} in {}", job.name(), place.name);
        if let Err(reason) = &place.peer {
            found.missing(name, format!("{reason:#}"));
            continue;
        }
        let mut row = |name: String, samples| match &floor_taken {
            Some(floor) => found.against(floor, name, samples),
            None => found.spread(name, "ms", samples),
        };
        let command = place.samples(job, |times| times.command);
        if !command.is_empty() {
            let taken = row(format!("{name}: to the command's end"), command)?;
            if place.name == EMBERBOX {
                rows.emberbox = Some(taken);
            }
        }
        let taken = row(name, place.samples(job, |times| Some(times.removed)))?;
        if place.name == GVISOR {
            rows.gvisor = Some(taken);
        } else if place.name == NAMESPACES {
            floor_taken = Some(taken);
        }
    }
    Ok(rows)
}

fn target(job: Job, rows: Rows, places: &[Place<'_>]) -> Target {
    let measure = format!(
        "create, prepared, and {}: times as fast as `runsc run`",
        job.name()
    );
    let wanted = match job {
        Job::True => Bound::AtLeast(7.0),
        Job::Python => Bound::AtLeast(1.0),
    };
    match rows {
        Rows {
            emberbox: Some(emberbox),
            gvisor: Some(gvisor),
        } => Target::new(measure, wanted, "×", gvisor.over(&emberbox)).beside(gvisor.as_floor()),
        Rows { .. } => {
            let both = places
                .iter()
                .filter(|place| [EMBERBOX, GVISOR].contains(&place.name));
            let reasons = both.filter_map(|place| {
                let reason = place.peer.as_ref().err()?;
                Some(format!("{}: {reason:#}", place.name))
            });
            let reasons: Vec<_> = reasons.collect();
            Target::missing(measure, wanted, "×", reasons.join("; "))
        }
    }
}

/// Ours, over HTTP.
struct Sandboxes {
    api: Api,
    /// How they have to come up.
    how: &'static str,
}

impl Sandboxes {
    fn new(api: Api, how: &'static str) -> Self {
        Self { api, how }
    }
}

impl Peer for Sandboxes {
    fn run(&mut self, job: Job) -> Result<Times> {
        let Self { api, how: wanted } = self;
        if *wanted == "prepared" {
            api.wait_prepared(DEFAULT_SHAPE, 1)?;
        }
        let began = Instant::now();
        let (sandbox, timing) = api.create_timed(&json!({}))?;
        let id = id_of(&sandbox)?;
        let output = api.exec_ok(id, job.line())?;
        let command = milliseconds(began);
        api.destroy(id)?;
        let removed = milliseconds(began);
        job.check(&output)?;
        if how(&timing) != *wanted {
            bail!("it came up otherwise: {timing}");
        }
        if *wanted == "prepared" {
            // The next is prepared before anything else is measured.
            api.wait_prepared(DEFAULT_SHAPE, 1)?;
        }
        Ok(Times {
            command: Some(command),
            removed,
        })
    }
}

#[cfg(test)]
mod tests;
