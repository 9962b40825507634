//! Following what a sandbox does.

use std::process::ExitCode;

use anyhow::{Result, bail};
use emberbox_api::FileEvent;
use emberbox_api::client::{Client, DirectoryEvent, Reach, SandboxEvent};

use crate::interrupt::or_interrupted;
use crate::output;

/// Its log: the last lines, and with `follow` those that come.
pub(crate) async fn logs(
    client: &Client,
    id: &str,
    lines: Option<u32>,
    follow: bool,
) -> Result<ExitCode> {
    if !follow {
        output::text(&client.logs(id, lines).await?.logs)?;
        return Ok(ExitCode::SUCCESS);
    }
    or_interrupted(async {
        let mut log = client.follow_logs(id, lines).await?;
        while let Some(line) = log.next().await? {
            output::line(line.line)?;
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// What happens to it, a line per event.
pub(crate) async fn events(client: &Client, id: &str, json: bool) -> Result<ExitCode> {
    or_interrupted(async {
        let mut events = client.events(id).await?;
        while let Some(event) = events.next().await? {
            output::line(if json {
                serde_json::to_string(&event)?
            } else {
                shown(&event)
            })?;
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// What happens in a directory of it, a line per event.
pub(crate) async fn directory(
    client: &Client,
    id: &str,
    (path, reach): (&str, Reach),
    json: bool,
) -> Result<ExitCode> {
    or_interrupted(async {
        let mut events = client.watch(id, path, reach).await?;
        while let Some(event) = events.next().await? {
            let change = match event {
                DirectoryEvent::Change(change) => change,
                DirectoryEvent::Error(error) => bail!("{} ({})", error.message, error.code),
            };
            output::line(if json {
                serde_json::to_string(&change)?
            } else {
                shown_change(&change)
            })?;
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// Width of a change's name: the longest one, `overflow`.
const CHANGE_WIDTH: usize = 8;

fn shown_change(change: &FileEvent) -> String {
    let mark = if change.is_dir { "/" } else { "" };
    let path = |path: &str| {
        let path = path.trim_end_matches('/');
        format!("{}{mark}", output::on_one_line(path))
    };
    let from = change.old_path.as_deref();
    let from = from.map_or(String::new(), |from| format!("{} -> ", path(from)));
    let name = change.event.as_str();
    format!("{name:<CHANGE_WIDTH$} {from}{}", path(&change.path))
}

fn shown(event: &SandboxEvent) -> String {
    match event {
        SandboxEvent::StateChanged(change) => {
            let from = change.previous_state.as_deref();
            let from = from.map_or(String::new(), |from| format!(" (was {from})"));
            format!("{} state {}{from}", change.timestamp, change.state)
        }
        SandboxEvent::ExecOutput(output) => format!(
            "{} {} {} {}",
            output.timestamp,
            output.exec_id,
            output.stream.as_str(),
            output::on_one_line(output.data.trim_end_matches('\n'))
        ),
        SandboxEvent::Error(error) => format!("{} error {}", error.timestamp, error.message),
    }
}
