//! Everything that runs in a session, whatever groups its shell made.

use std::fs;
use std::io;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

/// How often those that are left are looked for: a process that forks while
/// it is killed is found the next time.
const ROUNDS: usize = 50;

/// Pause between two rounds; a killed process takes about as long to go.
const PAUSE: Duration = Duration::from_millis(4);

/// Sends a signal to every process of a session that is not dead.
pub(super) fn signal(session: i32, signal: Signal) -> io::Result<usize> {
    let members = members(session)?;
    for pid in &members {
        // One that ended meanwhile needs none.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
    Ok(members.len())
}

/// Kills a session. Its leader must not have been reaped, or the number may
/// be another's.
pub(super) async fn kill_all(session: i32) {
    for _ in 0..ROUNDS {
        match signal(session, Signal::SIGKILL) {
            Ok(0) | Err(_) => return,
            Ok(_) => sleep(PAUSE).await,
        }
    }
}

fn members(session: i32) -> io::Result<Vec<i32>> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may be gone by now.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if session_of(&stat) == Some(session) {
            members.push(pid);
        }
    }
    Ok(members)
}

/// The session of a process that is not dead (proc(5): after the name in
/// parentheses come state, ppid, pgrp and session).
fn session_of(stat: &str) -> Option<libc::pid_t> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(session)
}

#[cfg(test)]
mod tests {
    use super::session_of;

    #[test]
    fn the_session_is_found_behind_any_name() {
        for (stat, session) in [
            ("7 (bash) S 1 7 70 34816 7 0", Some(70)),
            ("7 (a) Z 1 2 (3) R 1 7 70 0", Some(70)),
            ("7 (bash) Z 1 7 70 0", None),
            ("7 (bash) S 1", None),
            ("", None),
        ] {
            assert_eq!(session_of(stat), session, "{stat}");
        }
    }
}
