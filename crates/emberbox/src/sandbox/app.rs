//! The app of a sandbox: its start, its address and its deployment.

use std::process::{Command, Stdio};

use anyhow::Result;
use emberbox_api::client::Client;
use emberbox_api::{Deploy, StartTemplate};

use crate::{cli, output};

/// Starts it.
pub(crate) async fn start(client: &Client, arguments: cli::Start) -> Result<()> {
    let request = StartTemplate {
        install: arguments.no_install.then_some(false),
        install_command: arguments.install,
        start_command: arguments.command,
        port: arguments.port.map(Into::into),
        workdir: arguments.workdir,
        start_timeout_sec: arguments.timeout,
        restart: arguments.restart.then_some(true),
        ..StartTemplate::default()
    };
    let app = client.start_template(&arguments.id, &request).await?;
    if arguments.json {
        return output::json(&app);
    }
    let pid = app.pid.to_string();
    let artifacts = app.artifact_paths.join(", ");
    output::fields(&[
        ("url", app.preview_url.as_deref()),
        ("ready", Some(if app.ready { "yes" } else { "not yet" })),
        ("pid", Some(&pid)),
        ("workdir", Some(&app.workdir)),
        ("log", Some(&app.logs_path)),
        ("artifacts", Some(&*artifacts).filter(|it| !it.is_empty())),
    ])
}

/// Exposes a port, prints its address, and shows it if there is a display.
pub(crate) async fn open(client: &Client, id: &str, port: Option<u16>, print: bool) -> Result<()> {
    let url = client.expose(id, port).await?.url;
    output::line(&url)?;
    if print || !has_display() {
        return Ok(());
    }
    let browser = Command::new("xdg-open")
        .arg(&url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // The address is on the screen: whoever reads it can go there.
    if !browser.is_ok_and(|status| status.success()) {
        eprintln!("emberbox: xdg-open cannot open it");
    }
    Ok(())
}

fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Makes it a deployment.
pub(crate) async fn deploy(client: &Client, arguments: cli::Deploy) -> Result<()> {
    let request = Deploy {
        name: arguments.name,
        deployment_id: arguments.deployment,
        port: arguments.port.map(Into::into),
        domain: arguments.domain,
        ..Deploy::default()
    };
    let deployment = client.deploy(&arguments.id, &request).await?;
    if arguments.json {
        return output::json(&deployment);
    }
    output::line(deployment.public_url)
}
