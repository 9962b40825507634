//! What the control plane itself costs: the API over a host that makes no VMs,
//! with SQLite on disk, on one core. A program of `emberbox-control`'s takes the
//! samples; this says what they come to.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Measure;
use super::report::{Bound, Findings, Target};
use crate::command::{self, cargo};
use crate::setup::Product;

/// The control plane alone.
#[derive(clap::Args)]
pub(crate) struct Api {}

/// What the program prints.
#[derive(Deserialize)]
struct Printed {
    own_core: bool,
    get: Gets,
    list: Vec<List>,
    create: Creates,
    paced: Paced,
}

#[derive(Deserialize)]
struct Gets {
    bytes: usize,
    bare_per_second: Vec<f64>,
    sandbox_per_second: Vec<f64>,
}

#[derive(Deserialize)]
struct List {
    query: String,
    sandboxes: usize,
    bytes: usize,
    ms: Vec<f64>,
}

#[derive(Deserialize)]
struct Creates {
    creates: usize,
    per_second: f64,
}

#[derive(Deserialize)]
struct Paced {
    per_second: u32,
    ms: Vec<f64>,
}

impl Measure for Api {
    fn measure(&self, _product: &Product) -> Result<Findings> {
        let mut program = cargo();
        program.args(["bench", "--quiet", "--package", "emberbox-control"]);
        program.args(["--bench", "api"]);
        let printed = command::output(&mut program)?;
        findings(serde_json::from_slice(&printed).context("what the program prints")?)
    }
}

fn findings(printed: Printed) -> Result<Findings> {
    let turns = printed.get.bare_per_second.len();
    let creates = printed.create.creates;
    let mut found = Findings::of(format!("{turns} turns, {creates} creates"));
    let bytes = printed.get.bytes;
    let bare = format!("a bare handler answers {bytes} bytes (floor)");
    let bare = found.spread(bare, "/s", printed.get.bare_per_second)?;
    let gets = printed.get.sandbox_per_second;
    let gets = found.against(&bare, "GET of a sandbox, the same bytes", gets)?;
    let mut slowest: f64 = 0.0;
    for list in printed.list {
        let List {
            query,
            sandboxes,
            bytes,
            ms,
        } = list;
        let name = format!("list of {sandboxes} by `{query}`, {bytes} bytes");
        let taken = found.spread(name, "ms", ms)?;
        slowest = slowest.max(taken.spread.p50);
    }
    let rate = printed.create.per_second;
    found.one("creates", "/s", rate);
    let pace = printed.paced.per_second;
    let paced = format!("create, {pace} a second");
    let paced = found.spread(&paced, "ms", printed.paced.ms)?;
    found.targets = vec![
        Target::new(
            "GET of a sandbox / bare handler, p50",
            Bound::AtLeast(0.4),
            "",
            gets.over(&bare),
        )
        .beside(bare.as_floor()),
        Target::new(
            "list with a filter, the slowest, p50",
            Bound::AtMost(20.0),
            "ms",
            slowest,
        ),
        Target::new(
            "creates without VMs, on one core",
            Bound::AtLeast(1000.0),
            "/s",
            rate,
        ),
        Target::new(
            format!("the same, {pace} a second, p99"),
            Bound::AtMost(20.0),
            "ms",
            paced.spread.p99,
        ),
    ];
    if !printed.own_core {
        let note = "There was one core: who asks takes some of what the server could have.";
        found.notes.push(note.to_owned());
    }
    Ok(found)
}
