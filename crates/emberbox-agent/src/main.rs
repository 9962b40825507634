//! `/init` of every guest.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        emberbox_agent::boot::run()
    } else {
        eprintln!("emberbox-agent is the init of an Emberbox guest and runs as pid 1 only");
        ExitCode::FAILURE
    }
}
