//! Where the time of a create went, as its caller sees it.

use std::fmt::Write;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};

use crate::control::Timing;

const HEADER: HeaderName = HeaderName::from_static("server-timing");

/// `Server-Timing` (W3C) in milliseconds: reading the request with its key, the
/// steps of the create in their order, and all of it. `how` says how the VM
/// came up.
pub(super) fn header(
    read: Duration,
    timing: Option<&Timing>,
    total: Duration,
) -> [(HeaderName, HeaderValue); 1] {
    let mut text = entry("read", read);
    for (name, took) in timing.iter().flat_map(|timing| &timing.steps) {
        text.push_str(", ");
        text.push_str(&entry(name, *took));
    }
    if let Some(timing) = timing {
        write!(text, ", how;desc=\"{}\"", timing.how).expect("a String takes everything");
    }
    text.push_str(", ");
    text.push_str(&entry("total", total));
    let value = HeaderValue::try_from(text).expect("names and numbers are visible ASCII");
    [(HEADER, value)]
}

fn entry(name: &str, took: Duration) -> String {
    format!("{name};dur={:.3}", took.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests;
