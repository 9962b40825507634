//! Reports as Markdown: what the terminal shows and what the document holds.

use std::fmt::Write;

use super::plot::{self, Plot};
use super::report::{Bound, Figure, Reached, Report, Row, Target};

/// All of a report but its plots, ending with a line's end.
pub(super) fn report(report: &Report) -> String {
    let Report {
        bench: _,
        machine,
        day,
        findings,
    } = report;
    let mut text = format!("{machine}, {day}:\n\n");
    text += &format!(
        "| measure ({}) | p50 | p95 | p99 | range | of its floor |\n|---|---|---|---|---|---|\n",
        findings.basis
    );
    for row in &findings.rows {
        text += &measure(row);
    }
    if !findings.targets.is_empty() {
        text.push('\n');
        text += &targets(findings.targets.iter());
    }
    for note in &findings.notes {
        let _ = write!(text, "\n{note}\n");
    }
    text
}

/// What was wanted of each figure and what it came to.
pub(super) fn targets<'a>(targets: impl Iterator<Item = &'a Target>) -> String {
    let mut text = "| measure | target | reached | floor |\n|---|---|---|---|\n".to_owned();
    for target in targets {
        let Target {
            measure,
            wanted,
            unit,
            reached,
            floor,
        } = target;
        let wanted = match wanted {
            Bound::AtMost(most) => format!("≤ {}", with_unit(*most, unit)),
            Bound::AtLeast(least) => format!("≥ {}", with_unit(*least, unit)),
        };
        let reached = match reached {
            Reached::Figure(figure) if target.met() => with_unit(*figure, unit),
            Reached::Figure(figure) => format!("{}, missed", with_unit(*figure, unit)),
            Reached::Missing(reason) => format!("not measured: {}", cell(reason)),
        };
        let _ = writeln!(
            text,
            "| {} | {wanted} | {reached} | {} |",
            cell(measure),
            cell(floor)
        );
    }
    text
}

/// The links to a report's plots, from a document in `docs/`.
pub(super) fn images(report: &Report) -> String {
    let mut text = String::new();
    for Plot { file, title, .. } in plot::of(report) {
        let _ = write!(text, "\n![{title}](img/{file})\n");
    }
    text
}

fn measure(row: &Row) -> String {
    let Row {
        name,
        figure,
        floor,
    } = row;
    let name = cell(name);
    let floor = match floor {
        Some(beside) => format!("{} ×", number(beside.ratio)),
        None => String::new(),
    };
    match figure {
        Figure::Spread { unit, spread } => {
            let [min, p50, p95, p99, max] =
                [spread.min, spread.p50, spread.p95, spread.p99, spread.max].map(number);
            format!("| {name} | {p50} {unit} | {p95} | {p99} | {min} to {max} | {floor} |\n")
        }
        Figure::One { unit, value } => {
            format!("| {name} | {} | | | | {floor} |\n", with_unit(*value, unit))
        }
        Figure::Count { reached, of } => {
            format!("| {name} | {reached} of {of} | | | | {floor} |\n")
        }
        Figure::Missing { reason } => {
            format!("| {name} | does not run here: {} | | | | |\n", cell(reason))
        }
    }
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 0.1 || magnitude == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    // A bound that somebody set has the digits it was set with.
    let number = if value.fract() == 0.0 {
        format!("{value}")
    } else {
        number(value)
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests;
