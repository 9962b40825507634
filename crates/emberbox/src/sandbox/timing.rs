//! Where the time of a create went, for people.

use std::fmt::Write;

/// What a `Server-Timing` header says, a step a line in milliseconds, and what
/// the whole call took as seen from here.
pub(super) fn text(header: Option<&str>, round_trip_ms: f64) -> String {
    let mut text = String::new();
    for entry in header.unwrap_or_default().split(", ") {
        let (name, value) = match entry.split_once(';') {
            Some((name, value)) => (name, value),
            None => continue,
        };
        let line = match value.split_once('=') {
            Some(("dur", duration)) => format!("{name:<10} {duration:>10} ms"),
            Some((_, description)) => format!("{name:<10} {:>10}", description.trim_matches('"')),
            None => continue,
        };
        writeln!(text, "{line}").expect("a String takes everything");
    }
    writeln!(text, "{:<10} {round_trip_ms:>10.3} ms", "round trip")
        .expect("a String takes everything");
    text
}

#[cfg(test)]
mod tests;
