//! What is asked of a guest around its app.

use std::time::Duration;

use emberbox_core::app::{LOGS_PATH, PID_PATH};
use emberbox_guest::client::{ExecOutput, GuestClient};
use emberbox_guest::{ExecSpec, ExitStatus};

use crate::Failure;

/// How long a step that only starts or asks something may take; software
/// emulation on a loaded machine needs most of it.
pub(super) const QUICK: Duration = Duration::from_secs(30);

/// Most bytes kept of what a step says; it says a number or a reason.
const SAID_MAX: usize = 4 * 1024;

/// The last lines of the log, as far as there is one.
pub(crate) async fn tail(guest: &GuestClient, lines: u32) -> Result<Vec<String>, Failure> {
    /// A line of a megabyte is not read by anybody.
    const TAIL_MAX: usize = 1024 * 1024;
    let script = format!("tail -n {lines} {LOGS_PATH} 2>/dev/null | tail -c {TAIL_MAX}");
    let call = guest.exec(spec("/", &script, Vec::new(), QUICK)).await?;
    let output = call.collect(TAIL_MAX).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Follows the log from its last lines on. Dropping the call ends it.
pub(crate) fn follow_spec(lines: u32) -> ExecSpec {
    /// As long as any sandbox lives: 30 days, the longest `timeout_sec`, twice.
    const LONGEST: Duration = Duration::from_secs(60 * 24 * 3600);
    let script = format!("exec tail -n {lines} -F {LOGS_PATH} 2>/dev/null");
    spec("/", &script, Vec::new(), LONGEST)
}

/// Whether the app runs that was started with this id, and not a process that
/// got its number later.
pub(super) async fn is_alive(guest: &GuestClient, pid: u32) -> Result<bool, Failure> {
    let script = format!(
        "[ \"$(cat {PID_PATH} 2>/dev/null)\" = {pid} ] && {}",
        lives(pid)
    );
    let done = exec(guest, "/", &script, Vec::new(), QUICK).await?;
    Ok(done.status == ExitStatus::Code(0))
}

/// The process id of an app that runs and that nobody here started.
pub(super) async fn running_app(guest: &GuestClient) -> Result<Option<u32>, Failure> {
    let script = format!("cat {PID_PATH} 2>/dev/null");
    let done = exec(guest, "/", &script, Vec::new(), QUICK).await?;
    match said(&done.stdout).parse() {
        Ok(pid) if is_alive(guest, pid).await? => Ok(Some(pid)),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Ends the app that was started before the guest was claimed, with all it
/// started, and removes what tells of it.
pub(super) async fn end_starter(guest: &GuestClient) -> Result<(), Failure> {
    let script = format!(
        "pid=$(cat {PID_PATH} 2>/dev/null) || exit 0; \
         kill -KILL -- -$pid 2>/dev/null; rm -f {PID_PATH} {LOGS_PATH}"
    );
    exec(guest, "/", &script, Vec::new(), QUICK).await?;
    Ok(())
}

/// What stands before a command that is to run as this user: a name or a
/// number, and a group behind a colon, all of them plain words. Who is not in
/// the guest's list of users has no groups and no home.
pub(super) fn as_user(user: &str) -> String {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    if matches!(name, "root" | "0") && group.is_none() {
        return String::new();
    }
    let group = group.map_or_else(
        || format!("$(id -g {name} 2>/dev/null || echo {name})"),
        str::to_owned,
    );
    format!(
        "env HOME=\"$(getent passwd {name} | cut -d: -f6)\" setpriv --reuid={name} \
         --regid=\"{group}\" $(getent passwd {name} >/dev/null && echo --init-groups || echo --clear-groups)"
    )
}

/// A command that exits with 0 while this process lives; one that only nobody
/// has reaped yet does not.
pub(super) fn lives(pid: u32) -> String {
    format!("grep -qs '^State:.[^XZ]' /proc/{pid}/status")
}

pub(super) async fn exec(
    guest: &GuestClient,
    cwd: &str,
    script: &str,
    env: Vec<(String, String)>,
    timeout: Duration,
) -> Result<ExecOutput, Failure> {
    let call = guest.exec(spec(cwd, script, env, timeout)).await?;
    Ok(call.collect(SAID_MAX).await?)
}

fn spec(cwd: &str, script: &str, env: Vec<(String, String)>, timeout: Duration) -> ExecSpec {
    ExecSpec {
        command: script.to_owned(),
        cwd: cwd.to_owned(),
        env,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        stdin: false,
    }
}

pub(super) fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
