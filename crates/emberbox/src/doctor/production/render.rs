//! The checks for people: what is wrong first.

use std::fmt::Write;

use clap::ValueEnum;

use super::Production;
use super::check::{Check, Verdict};

/// The whole text.
pub(super) fn text(production: &Production) -> String {
    let count = |verdict| {
        let same = |check: &&Check| check.verdict == verdict;
        production.checks.iter().filter(same).count()
    };
    let summary = match count(Verdict::Unsafe) {
        0 => "fit for guests that nobody trusts".to_owned(),
        unsafe_count => format!(
            "not fit for guests that nobody trusts: {unsafe_count} of {} checks failed",
            production.checks.len()
        ),
    };
    let mut text = format!("emberbox {}: {summary}\n\n", production.version);
    for verdict in [
        Verdict::Unsafe,
        Verdict::Accepted,
        Verdict::Advice,
        Verdict::Safe,
    ] {
        for check in production.checks.iter().filter(|it| it.verdict == verdict) {
            write(&mut text, check);
        }
    }
    if count(Verdict::Unsafe) > 0 {
        text += "\nWhat is meant to be so is accepted with --accept NAME.\n";
    }
    text
}

fn write(text: &mut String, check: &Check) {
    let verdict = match check.verdict {
        Verdict::Safe => "ok",
        Verdict::Advice => "advice",
        Verdict::Unsafe => "UNSAFE",
        Verdict::Accepted => "accepted",
    };
    let name = check.item.to_possible_value();
    let name = name.as_ref().map_or("", |value| value.get_name());
    writeln!(text, "  {verdict:<9} {name:<23} {}", check.found).expect("a String takes everything");
    if let Some(fix) = &check.fix {
        writeln!(text, "    to mend it:  {fix}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests;
