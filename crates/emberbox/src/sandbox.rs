//! `emberbox sandbox …`.

mod app;
pub(crate) mod copy;
mod exec;
mod follow;
mod process;
mod snapshot;
mod stdin;
mod terminal;
mod timing;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use emberbox_api::client::{Client, Reach};
use emberbox_api::{
    CreateSandbox, CreateSnapshot, ExtendSandbox, FileType, ForkSandbox, Listing, Sandbox,
};
use emberbox_core::SandboxState;

use crate::cli::{self, SandboxCommand};
use crate::{client, output};
use copy::Place;

/// Runs one of them.
pub(crate) async fn run(command: SandboxCommand) -> Result<ExitCode> {
    let client = client::from_environment()?;
    match command {
        SandboxCommand::Create(create) => self::create(&client, create).await?,
        SandboxCommand::List { all, state, json } => {
            let mut sandboxes = client.list_sandboxes(state.as_deref()).await?;
            if !all && state.is_none() {
                sandboxes.retain(|sandbox| sandbox.state != SandboxState::Destroyed);
            }
            if json {
                output::json(&sandboxes)?
            } else {
                show_all(sandboxes)?
            }
        }
        SandboxCommand::Get { id, json } => {
            let sandbox = client.get_sandbox(&id).await?;
            if json {
                output::json(&sandbox)?
            } else {
                show(&sandbox)?
            }
        }
        SandboxCommand::Exec(exec) => return exec::run(&client, exec).await,
        SandboxCommand::Watch { place, flat, json } => {
            let (id, path) = Place::directory(&place)?;
            let reach = if flat { Reach::Directory } else { Reach::Below };
            return follow::directory(&client, &id, (&path, reach), json).await;
        }
        SandboxCommand::Start(start) => app::start(&client, start).await?,
        SandboxCommand::Logs { id, follow, lines } => {
            return follow::logs(&client, &id, lines, follow).await;
        }
        SandboxCommand::Events { id, json } => return follow::events(&client, &id, json).await,
        SandboxCommand::Expose { id, port } => {
            output::line(client.expose(&id, port).await?.url)?;
        }
        SandboxCommand::Open { id, port, print } => app::open(&client, &id, port, print).await?,
        SandboxCommand::Deploy(deploy) => app::deploy(&client, deploy).await?,
        SandboxCommand::Pause { ids } => {
            for id in ids {
                output::line(client.pause_sandbox(&id).await?.id.as_str())?;
            }
        }
        SandboxCommand::Resume { ids } => {
            for id in ids {
                output::line(client.resume_sandbox(&id).await?.id.as_str())?;
            }
        }
        SandboxCommand::Snapshot { id, comment } => {
            let taken = client
                .take_snapshot(&id, &CreateSnapshot { comment })
                .await?;
            output::line(taken.id.as_str())?;
        }
        SandboxCommand::Snapshots { id, json, delete } => {
            snapshot::list_or_delete(&client, &id, json, delete.as_deref()).await?;
        }
        SandboxCommand::Restore { id, snapshot } => {
            output::line(client.restore_snapshot(&id, &snapshot).await?.id.as_str())?;
        }
        SandboxCommand::Fork { id, snapshot, name } => {
            let request = ForkSandbox {
                snapshot_id: snapshot,
                name,
                ..ForkSandbox::default()
            };
            output::line(client.fork_sandbox(&id, &request).await?.id.as_str())?;
        }
        SandboxCommand::Extend { id, timeout } => {
            let request = ExtendSandbox {
                timeout_sec: timeout,
            };
            show(&client.extend_sandbox(&id, &request).await?)?;
        }
        SandboxCommand::Ps { id, json } => process::list(&client, &id, json).await?,
        SandboxCommand::Kill { id, pids, signal } => {
            process::end(&client, &id, &pids, signal.as_deref()).await?;
        }
        SandboxCommand::Sh(shell) => return terminal::shell(&client, shell).await,
        SandboxCommand::Cp { from, to } => copy::run(&client, from, to).await?,
        SandboxCommand::Ls { place, json } => {
            let (id, path) = Place::directory(&place)?;
            let listing = client.list_files(&id, &path).await?;
            if json {
                output::json(&listing)?
            } else {
                show_listing(listing)?
            }
        }
        SandboxCommand::Rm { ids } => {
            for id in ids {
                client.destroy_sandbox(&id).await?;
                output::line(id)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(client: &Client, arguments: cli::CreateSandbox) -> Result<()> {
    let some = |map: Vec<(String, String)>| (!map.is_empty()).then_some(map);
    let request = CreateSandbox {
        template_id: arguments.template,
        size: arguments.size,
        cpu_count: arguments.cpu,
        memory_mb: arguments.memory,
        disk_mb: arguments.disk,
        timeout_sec: arguments.timeout,
        env: some(arguments.env).map(|pairs| pairs.into_iter().collect()),
        metadata: some(arguments.metadata).map(|pairs| {
            pairs
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect()
        }),
        auto_start: arguments.auto_start.then_some(true),
        name: arguments.name,
        tags: (!arguments.tags.is_empty()).then_some(arguments.tags),
        ..CreateSandbox::default()
    };
    let started = Instant::now();
    let (sandbox, timing) = client.create_sandbox_timed(&request).await?;
    if arguments.timing {
        let round_trip = started.elapsed().as_secs_f64() * 1e3;
        eprint!("{}", timing::text(timing.as_deref(), round_trip));
    }
    if arguments.json {
        output::json(&sandbox)
    } else {
        output::line(sandbox.id.as_str())
    }
}

fn show_all(sandboxes: Vec<Sandbox>) -> Result<()> {
    let rows = sandboxes.into_iter().map(|sandbox| {
        let size = shape(&sandbox);
        vec![
            sandbox.id.to_string(),
            sandbox.name.unwrap_or_default(),
            sandbox.state.to_string(),
            sandbox.template_id,
            size,
            sandbox.created_at.to_string(),
        ]
    });
    output::table(
        &["ID", "NAME", "STATE", "TEMPLATE", "SIZE", "CREATED"],
        rows,
    )
}

fn shape(sandbox: &Sandbox) -> String {
    format!(
        "{} vCPU, {} MiB, {} MiB disk",
        sandbox.cpu_count, sandbox.memory_mb, sandbox.disk_size_mb
    )
}

fn show(sandbox: &Sandbox) -> Result<()> {
    let boot = match (&sandbox.boot_path, sandbox.boot_ms) {
        (Some(path), Some(ms)) => Some(format!("{path}, {ms} ms")),
        (path, _) => path.clone(),
    };
    let time = |time: Option<emberbox_api::Time>| time.map(|time| time.to_string());
    let rows = [
        ("id", Some(sandbox.id.to_string())),
        ("name", sandbox.name.clone()),
        ("state", Some(sandbox.state.to_string())),
        ("error", sandbox.error_message.clone()),
        ("template", Some(sandbox.template_id.clone())),
        ("size", Some(shape(sandbox))),
        ("boot", boot),
        (
            "tags",
            (!sandbox.tags.is_empty()).then(|| sandbox.tags.join(", ")),
        ),
        ("created", Some(sandbox.created_at.to_string())),
        ("ready", time(sandbox.ready_at)),
        (
            "time left",
            sandbox
                .timeout_remaining_ms
                .map(|ms| format!("{} s", ms / 1000)),
        ),
        ("destroyed", time(sandbox.destroyed_at)),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, value)| (*name, value.as_deref()))
        .collect();
    output::fields(&rows)
}

fn show_listing(listing: Listing) -> Result<()> {
    let rows = listing.entries.into_iter().map(|entry| {
        let mark = match entry.kind {
            FileType::Directory => "/",
            FileType::Symlink => "@",
            FileType::File | FileType::Other => "",
        };
        vec![
            entry.mode,
            entry.size.to_string(),
            entry.modified_at.to_string(),
            format!("{}{mark}", entry.name),
        ]
    });
    output::table(&["MODE", "SIZE", "MODIFIED", "NAME"], rows)?;
    if listing.truncated {
        eprintln!("there are more; the list is cut");
    }
    Ok(())
}
