//! Background processes.

use anyhow::Result;
use emberbox_api::Process;
use emberbox_api::client::Client;

use crate::output;

/// Lists them.
pub(crate) async fn list(client: &Client, id: &str, json: bool) -> Result<()> {
    let processes = client.list_processes(id).await?;
    if json {
        return output::json(&processes);
    }
    let headings = ["PID", "NAME", "STATE", "STARTED", "COMMAND"];
    output::table(&headings, processes.into_iter().map(row))
}

/// Ends them, or only sends them a signal.
pub(crate) async fn end(
    client: &Client,
    id: &str,
    pids: &[u32],
    signal: Option<&str>,
) -> Result<()> {
    for pid in pids {
        match signal {
            Some(signal) => drop(client.signal_process(id, *pid, signal).await?),
            None => client.stop_process(id, *pid).await?,
        }
        output::line(pid.to_string())?;
    }
    Ok(())
}

fn row(process: Process) -> Vec<String> {
    let state = match process.exit_code {
        None => "running".to_owned(),
        Some(code) => format!("exited {code}"),
    };
    let started = process.started_at.map(|time| time.to_string());
    vec![
        process.pid.to_string(),
        process.name.unwrap_or_default(),
        state,
        started.unwrap_or_default(),
        output::on_one_line(&process.command),
    ]
}
