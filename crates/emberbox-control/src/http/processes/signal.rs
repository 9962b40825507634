//! Signals by name or number.

use std::str::FromStr;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Failure;

/// The last real-time signal of Linux.
const LAST: i64 = 64;

/// The number of a signal on Linux; it is the same on every architecture a
/// guest may have.
pub(super) fn number(signal: &Value) -> Result<i32, Failure> {
    let number = match signal {
        Value::Number(number) => number.as_i64().filter(|number| (1..=LAST).contains(number)),
        Value::String(text) => by_name(text).map(i64::from),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| {
            let message = format!("must be a signal's name such as SIGTERM, or 1 to {LAST}");
            Failure::invalid_field("signal", message)
        })
}

fn by_name(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    Signal::from_str(&format!("SIG{short}"))
        .ok()
        .map(|signal| signal as i32)
}
