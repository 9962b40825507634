//! What a guest's console says about its end.

use crate::engine::ExitReason;

/// Console text that goes into an exit reason.
const LAST_WORDS: usize = 500;

/// Last lines of a kernel that stands still though its machine runs on: one
/// that cannot switch it off.
const HALTED: [&str; 2] = ["reboot: Power down", "reboot: System halted"];

/// What every guest's kernel prints when it panics.
const PANIC: &str = "Kernel panic";

/// Why a guest that went down did so: unless its console says otherwise, it
/// shut itself down.
pub(crate) fn reason(console: &str) -> ExitReason {
    if console.contains(PANIC) {
        return ExitReason::GuestPanic;
    }
    let fatal = console
        .lines()
        .rev()
        .find(|line| line.contains("emberbox-agent: FATAL"));
    if let Some(line) = fatal {
        let detail = line.chars().take(LAST_WORDS).collect();
        return ExitReason::VmmDied { detail };
    }
    ExitReason::GuestShutdown
}

/// Whether the guest went down and will do nothing more.
pub(crate) fn is_down(console: &str) -> bool {
    HALTED.iter().any(|last| console.contains(last))
}

#[cfg(test)]
mod tests;
