//! ARCHITECTURE.md says which crate may use which; cargo says which does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::command::{self, cargo, root};

/// The heading the table stands under.
const HEADING: &str = "## Who may depend on whom";

type Table = BTreeMap<String, BTreeSet<String>>;

/// Fails with every difference between the two.
pub(crate) fn check() -> Result<()> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md"))
        .context("cannot read ARCHITECTURE.md")?;
    let written = parse(&text)?;
    let metadata =
        command::output(cargo().args(["metadata", "--format-version=1", "--no-deps", "--locked"]))?;
    let actual = actual(&serde_json::from_slice(&metadata).context("cargo metadata")?);
    let differences = differences(&written, &actual);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "ARCHITECTURE.md and the crates disagree about who depends on whom:\n  {}",
        differences.join("\n  ")
    )
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for a normal one.
    kind: Option<String>,
    /// Only our own have one.
    path: Option<String>,
}

/// Our crates and which of ours they are built from. What only tests use is
/// free.
fn actual(metadata: &Metadata) -> Table {
    metadata
        .packages
        .iter()
        .map(|package| {
            let uses = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.path.is_some())
                .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
                .map(|dependency| dependency.name.clone())
                .collect();
            (package.name.clone(), uses)
        })
        .collect()
}

/// Reads the table: a crate in the first cell, what it may use in the second,
/// every name in backticks.
fn parse(text: &str) -> Result<Table> {
    let (_, section) = text
        .split_once(HEADING)
        .with_context(|| format!("ARCHITECTURE.md has no section {HEADING:?}"))?;
    let table: Table = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|');
            let name = names(cells.next()?).into_iter().next()?;
            Some((name, names(cells.next()?)))
        })
        .collect();
    ensure!(
        !table.is_empty(),
        "the section {HEADING:?} of ARCHITECTURE.md has no table"
    );
    Ok(table)
}

fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn differences(written: &Table, actual: &Table) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, uses) in actual {
        let Some(allowed) = written.get(name) else {
            differences.push(format!("{name} is not in the table"));
            continue;
        };
        for extra in uses.difference(allowed) {
            differences.push(format!(
                "{name} uses {extra}, which the table does not allow"
            ));
        }
        for unused in allowed.difference(uses) {
            differences.push(format!(
                "{name} does not use {unused}, though the table says so"
            ));
        }
    }
    for name in written.keys().filter(|name| !actual.contains_key(*name)) {
        differences.push(format!("the table names {name}, which is no crate"));
    }
    differences
}

#[cfg(test)]
mod tests;
