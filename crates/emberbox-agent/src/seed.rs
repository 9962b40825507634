//! Warming a guest before a snapshot of it becomes a seed.
//!
//! Everything a first call would otherwise pay for in each restored guest is
//! done once here: page cache, dentries, the agent's own pages, translated
//! code. A template's app is started first, so that it runs in every restored
//! guest from the beginning. Nothing that is left behind tells one guest from
//! another; what the app itself drew at random is the template author's care.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use emberbox_guest::frame;
use emberbox_guest::{
    App, ExecSpec, ExitStatus, FromAgent, GuestError, GuestErrorCode, ListSpec, ProcessSpec,
    WriteSpec,
};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::connection::{Connection, Hangup};
use crate::{exec, files, identity, processes};

/// Each is run where its program exists, twice: the second run is the one that
/// finds everything in memory and translates what only then is reached.
const COMMANDS: [(&str, &str); 10] = [
    ("/bin/true", "true"),
    ("/bin/bash", ":"),
    ("/bin/ls", "ls -la / /root /workspace /tmp >/dev/null"),
    (
        "/bin/cat",
        "cat /etc/passwd /proc/version | head -n 1 >/dev/null",
    ),
    ("/usr/bin/python3", "python3 -c 'print(1)'"),
    (
        "/usr/bin/python3",
        "python3 -c 'import json, os, random, subprocess, sys, uuid'",
    ),
    ("/usr/bin/node", "node -e 0"),
    ("/usr/bin/git", "git --version"),
    (
        "/usr/bin/env",
        "env -i /bin/sh -c 'echo; echo >&2; mkdir -p /tmp/.w; rm -r /tmp/.w'",
    ),
    ("/usr/bin/curl", "curl --version"),
];

/// Directories whose entries are looked up by most commands.
const LISTED: [&str; 6] = ["/", "/bin", "/etc", "/root", "/tmp", "/workspace"];

/// Longest run of one command: `node` takes more than half a minute on an emulated
/// machine that others want as well. The client waits three minutes for all.
const COMMAND_MS: u64 = 120_000;

/// Capacity of the pretended connection, in bytes.
const WIRE: usize = 256 * 1024;

/// Pause between two tries whether an app is ready.
const READY_PAUSE: Duration = Duration::from_millis(250);

/// How long an app that nobody can ask is watched: one that cannot run at all
/// has ended by then.
const SETTLE: Duration = Duration::from_secs(2);

/// Of an app's output, told when it does not get ready.
const LAST_WORDS: usize = 2048;

/// Warms the guest and makes it fit to be a seed.
pub(crate) async fn prepare(agent: &Arc<Agent>, app: Option<App>) -> Result<(), GuestError> {
    if let Some(app) = app {
        clear(agent)?;
        start(agent, app).await?;
    }
    for (program, command) in COMMANDS {
        if !Path::new(program).exists() {
            continue;
        }
        for _ in 0..2 {
            run(agent, command).await?;
        }
    }
    touch_files().await?;
    clear(agent)?;
    files::sync().await
}

fn clear(agent: &Agent) -> Result<(), GuestError> {
    identity::clear(&agent.system).map_err(|error| {
        GuestError::new(
            GuestErrorCode::Io,
            format_args!("cannot clear the identity: {error}"),
        )
    })
}

/// Starts the app and waits until it is ready.
async fn start(agent: &Arc<Agent>, app: App) -> Result<(), GuestError> {
    let patience = Duration::from_millis(app.patience_ms);
    let spec = ProcessSpec {
        exec: app.start,
        name: Some("app".to_owned()),
    };
    let process = processes::start(agent, &spec)?;
    let not_ready = |why: String| {
        let words = process.last_words(LAST_WORDS);
        let text = format!("the app {why}; it wrote last:\n{}", words.trim_end());
        GuestError::new(GuestErrorCode::Io, text)
    };
    let deadline = Instant::now() + patience;
    let Some(ready) = app.ready else {
        sleep(SETTLE.min(patience)).await;
        return match process.status() {
            // A command may start others and be done.
            None | Some(ExitStatus::Code(0)) => Ok(()),
            Some(status) => Err(not_ready(format!("ended with {status:?}"))),
        };
    };
    loop {
        let mut spec = ready.clone();
        let left = deadline.saturating_duration_since(Instant::now());
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        spec.timeout_ms = spec.timeout_ms.min(left).max(1);
        if execute(agent, spec).await? == ExitStatus::Code(0) {
            return Ok(());
        }
        if let Some(status) = process.status()
            && status != ExitStatus::Code(0)
        {
            return Err(not_ready(format!("ended with {status:?}")));
        }
        if Instant::now() >= deadline {
            let seconds = patience.as_secs();
            return Err(not_ready(format!("was not ready within {seconds} s")));
        }
        sleep(READY_PAUSE).await;
    }
}

/// Runs a command, whatever it says.
pub(crate) async fn run(agent: &Arc<Agent>, command: &str) -> Result<(), GuestError> {
    let spec = ExecSpec {
        command: command.to_owned(),
        cwd: "/".to_owned(),
        env: vec![("HISTFILE".to_owned(), String::new())],
        timeout_ms: COMMAND_MS,
        stdin: true,
    };
    match execute(agent, spec).await? {
        // A program that says no has been warmed all the same.
        ExitStatus::Code(_) => Ok(()),
        ended @ (ExitStatus::Signal(_) | ExitStatus::TimedOut) => Err(GuestError::new(
            GuestErrorCode::Io,
            format_args!("warming with `{command}` ended with {ended:?}"),
        )),
    }
}

/// Runs a command through the same code and frames as a call from the host.
async fn execute(agent: &Arc<Agent>, mut spec: ExecSpec) -> Result<ExitStatus, GuestError> {
    // Its input is ended below, as a call from the host would.
    spec.stdin = true;
    let (mut connection, host) = wire();
    let (mut reader, mut writer) = tokio::io::split(host);
    let host = async {
        let mut buffer = Vec::new();
        let end = frame::write(&mut writer, &emberbox_guest::ToAgent::End).await;
        loop {
            match frame::read(&mut reader, &mut buffer).await {
                Ok(FromAgent::Exited(status)) => break end.map(|()| status).map_err(broken),
                Ok(FromAgent::Failed(error)) => break Err(error),
                Ok(_) => {}
                Err(error) => break Err(broken(error)),
            }
        }
    };
    let (ran, status) = tokio::join!(exec::run(agent, &mut connection, spec), host);
    ran.map_err(broken)?;
    status
}

async fn touch_files() -> Result<(), GuestError> {
    const PATH: &str = "/tmp/.emberbox-warm";
    let (mut connection, host) = wire();
    let (mut reader, mut writer) = tokio::io::split(host);
    let drain = async {
        let mut buffer = Vec::new();
        while frame::read::<FromAgent>(&mut reader, &mut buffer)
            .await
            .is_ok()
        {}
    };
    let calls = async {
        for path in LISTED.map(str::to_owned) {
            let spec = ListSpec {
                path: path.clone(),
                depth: 1,
                limit: 1000,
            };
            files::list(&mut connection.outgoing, spec).await?;
            files::stat(&mut connection.outgoing, path).await?;
        }
        let spec = WriteSpec {
            path: PATH.to_owned(),
            mode: None,
            limit: 64,
        };
        frame::write(&mut writer, &emberbox_guest::ToAgent::Data("warm".into())).await?;
        frame::write(&mut writer, &emberbox_guest::ToAgent::End).await?;
        files::write(&mut connection, spec).await?;
        files::read(&mut connection.outgoing, PATH.to_owned()).await?;
        // Ends the drain.
        drop(connection);
        let _ = writer.shutdown().await;
        Ok::<_, Hangup>(())
    };
    let (done, ()) = tokio::join!(calls, drain);
    // There is nothing to remove where the write was refused.
    let _ = fs::remove_file(PATH);
    done.map_err(broken)
}

/// A connection with nothing but memory between its ends.
fn wire() -> (Connection, DuplexStream) {
    let (agent, host) = duplex(WIRE);
    let (reader, writer) = tokio::io::split(agent);
    (Connection::new(reader, writer), host)
}

fn broken(error: impl std::fmt::Display) -> GuestError {
    GuestError::new(GuestErrorCode::Io, format_args!("warming failed: {error}"))
}

#[cfg(test)]
mod tests;
