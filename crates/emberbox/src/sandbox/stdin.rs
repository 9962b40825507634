//! Running a command with our standard input.
//!
//! It is a background process meanwhile, which is ended if we go first.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use emberbox_api::client::{Client, ClientError};
use emberbox_api::{StartProcess, WriteProcess};
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use super::exec::{exit_with, pass_on};
use crate::interrupt::or_interrupted;
use crate::{cli, shell};

/// Bytes sent at a time: a full pipe.
const PIECE: usize = 64 * 1024;

/// Pause before bytes are offered again to a command that does not read.
const UNREAD: Duration = Duration::from_millis(100);

/// Runs it.
pub(super) async fn run(client: &Client, arguments: cli::Exec) -> Result<ExitCode> {
    let request = StartProcess {
        command: shell::line(&arguments.command),
        working_dir: arguments.cwd,
        timeout: arguments.timeout,
        env: (!arguments.env.is_empty()).then(|| arguments.env.into_iter().collect()),
        ..StartProcess::default()
    };
    let id = &*arguments.id;
    let pid = client.start_process(id, &request).await?.pid;
    let ended = or_interrupted(async {
        let mut events = client.follow_process(id, pid, 0).await?;
        tokio::select! {
            code = pass_on(&mut events) => code.map(exit_with),
            error = feed(client, id, pid) => Err(error),
        }
    })
    .await;
    // Whatever it was that ended us, nothing is left behind. It may be gone.
    let _ = client.stop_process(id, pid).await;
    ended
}

/// Passes on standard input to its end; returns only why it cannot.
async fn feed(client: &Client, id: &str, pid: u32) -> anyhow::Error {
    match feed_to_end(client, id, pid).await {
        // What the command makes of it is told by its output.
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

async fn feed_to_end(client: &Client, id: &str, pid: u32) -> Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE];
    loop {
        let read = stdin.read(&mut piece).await;
        let read = read.context("cannot read standard input")?;
        let request = WriteProcess {
            data_base64: Some(STANDARD.encode(&piece[..read])),
            close: read == 0,
            ..WriteProcess::default()
        };
        loop {
            match client.write_process(id, pid, &request).await {
                Ok(()) => break,
                // None of it was taken: the command reads slowly.
                Err(error) if code(&error) == "GUEST_LIMIT_EXCEEDED" => sleep(UNREAD).await,
                // It has ended: its exit is on the way.
                Err(error) if code(&error) == "PROCESS_NOT_RUNNING" => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

fn code(error: &ClientError) -> &str {
    error.code().unwrap_or_default()
}
