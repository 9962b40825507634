//! What a bench found, said once: the terminal, the JSON files, the Markdown
//! tables and the plots are all made from this.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// What one run of a bench found, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The bench's name on the command line.
    pub(super) bench: String,
    pub(super) machine: Machine,
    /// The day, for example `2026-11-26`, in UTC.
    pub(super) day: String,
    #[serde(flatten)]
    pub(super) findings: Findings,
}

/// What was measured, and what it should have come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Findings {
    /// How often, for example `50 turns`.
    pub(super) basis: String,
    pub(super) rows: Vec<Row>,
    pub(super) targets: Vec<Target>,
    /// Sentences that hold figures of this run.
    pub(super) notes: Vec<String>,
    pub(super) curves: Vec<Curves>,
}

/// One measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) figure: Figure,
    /// What it stands beside.
    pub(super) floor: Option<Beside>,
}

/// What became of a measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Taken many times.
    Spread { unit: String, spread: Spread },
    /// Taken once.
    One { unit: String, value: f64 },
    /// So many of so many.
    Count { reached: usize, of: usize },
    /// Could not be taken, and why.
    Missing { reason: String },
}

/// How a measure stands to its floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Beside {
    /// The row of the floor.
    pub(super) name: String,
    /// Of the two medians.
    pub(super) ratio: f64,
}

/// How the samples of a measure were distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// A row that was taken, for what is compared with it.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    name: String,
    unit: String,
    pub(super) spread: Spread,
}

/// What a figure should come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) measure: String,
    pub(super) wanted: Bound,
    pub(super) unit: String,
    pub(super) reached: Reached,
    /// What the figure is judged by, with its own, if anything but a number.
    pub(super) floor: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reached {
    Figure(f64),
    /// There is none, and why.
    Missing(String),
}

/// Lines over one pair of axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Curves {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Findings {
    /// Nothing yet; `basis` is, for example, `50 turns`.
    pub(super) fn of(basis: impl Into<String>) -> Self {
        Self {
            basis: basis.into(),
            rows: Vec::new(),
            targets: Vec::new(),
            notes: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// A measure that was taken many times.
    pub(super) fn spread(
        &mut self,
        name: impl Into<String>,
        unit: &str,
        samples: Vec<f64>,
    ) -> Result<Taken> {
        let taken = Taken {
            name: name.into(),
            unit: unit.to_owned(),
            spread: Spread::of(samples)?,
        };
        self.row(taken.name.clone(), taken.figure(), None);
        Ok(taken)
    }

    /// The same, beside its floor.
    pub(super) fn against(
        &mut self,
        floor: &Taken,
        name: impl Into<String>,
        samples: Vec<f64>,
    ) -> Result<Taken> {
        let taken = self.spread(name, &floor.unit, samples)?;
        let ratio = taken.over(floor);
        if let Some(row) = self.rows.last_mut() {
            row.floor = Some(Beside {
                name: floor.name.clone(),
                ratio,
            });
        }
        Ok(taken)
    }

    /// A measure that was taken once.
    pub(super) fn one(&mut self, name: impl Into<String>, unit: &str, value: f64) {
        let unit = unit.to_owned();
        self.row(name.into(), Figure::One { unit, value }, None);
    }

    /// So many of so many.
    pub(super) fn count(&mut self, name: impl Into<String>, reached: usize, of: usize) {
        self.row(name.into(), Figure::Count { reached, of }, None);
    }

    /// A measure that cannot be taken here, and why.
    pub(super) fn missing(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        let reason = reason.into();
        self.row(name.into(), Figure::Missing { reason }, None);
    }

    fn row(&mut self, name: String, figure: Figure, floor: Option<Beside>) {
        self.rows.push(Row {
            name,
            figure,
            floor,
        });
    }
}

impl Taken {
    /// How many times the other's median its own is.
    pub(super) fn over(&self, other: &Self) -> f64 {
        self.spread.p50 / other.spread.p50
    }

    /// Itself as a target's floor.
    pub(super) fn as_floor(&self) -> String {
        format!("{}: {:.1} {}", self.name, self.spread.p50, self.unit)
    }

    fn figure(&self) -> Figure {
        Figure::Spread {
            unit: self.unit.clone(),
            spread: self.spread,
        }
    }
}

impl Spread {
    /// Of samples in any order.
    pub(super) fn of(mut samples: Vec<f64>) -> Result<Self> {
        ensure!(!samples.is_empty(), "nothing was measured");
        samples.sort_by(f64::total_cmp);
        let at = |share: f64| samples[((samples.len() - 1) as f64 * share).round() as usize];
        Ok(Self {
            min: at(0.0),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        })
    }
}

impl Target {
    /// `unit` is empty for a ratio.
    pub(super) fn new(measure: impl Into<String>, wanted: Bound, unit: &str, reached: f64) -> Self {
        Self {
            measure: measure.into(),
            wanted,
            unit: unit.to_owned(),
            reached: Reached::Figure(reached),
            floor: String::new(),
        }
    }

    /// The same with what it is judged by.
    pub(super) fn beside(mut self, floor: impl Into<String>) -> Self {
        self.floor = floor.into();
        self
    }

    /// One that cannot be judged here, and why.
    pub(super) fn missing(
        measure: impl Into<String>,
        wanted: Bound,
        unit: &str,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            reached: Reached::Missing(reason.into()),
            ..Self::new(measure, wanted, unit, 0.0)
        }
    }

    /// Whether it was reached; what could not be judged was not.
    pub(super) fn met(&self) -> bool {
        match (&self.reached, self.wanted) {
            (Reached::Figure(figure), Bound::AtMost(most)) => *figure <= most,
            (Reached::Figure(figure), Bound::AtLeast(least)) => *figure >= least,
            (Reached::Missing(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
