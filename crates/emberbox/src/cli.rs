//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod billing;
mod sandbox;
mod template;
mod tenancy;

pub(crate) use billing::*;
pub(crate) use sandbox::*;
pub(crate) use template::*;
pub(crate) use tenancy::*;

use crate::doctor::Item;

/// Sandboxes that are real microVMs, restored from a memory snapshot.
#[derive(Debug, Parser)]
#[command(name = "emberbox", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server.
    Serve(Serve),
    /// Make guest images and the default seed on this machine.
    Setup(Setup),
    /// Say what this machine can do and what is missing.
    Doctor(Doctor),
    /// Print the OpenAPI document of the HTTP API.
    Openapi,
    /// Create, use and remove sandboxes of a server.
    Sandbox {
        #[command(subcommand)]
        command: SandboxCommand,
    },
    /// See and take down the deployments of a server.
    Deployment {
        #[command(subcommand)]
        command: DeploymentCommand,
    },
    /// Make, build and see templates of a server.
    Template {
        #[command(subcommand)]
        command: TemplateCommand,
    },
    /// Manage the tenants of a server; needs an operator's key.
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Manage your tenant's workspaces.
    Workspace {
        #[command(subcommand)]
        command: WorkspaceCommand,
    },
    /// Manage your tenant's projects.
    Project {
        #[command(subcommand)]
        command: ProjectCommand,
    },
    /// Manage API keys of a server.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Show what your tenant's sandboxes used.
    Usage(Usage),
    /// See your account; give tenants credit.
    Credit {
        #[command(subcommand)]
        command: CreditCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed and written
    /// to DIR/address. Default: server.listen of the configuration, else
    /// 127.0.0.1:8080.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// What this server owns: database, records and disks of its sandboxes.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where the first API key is written at the first start.
    #[arg(long, value_name = "FILE")]
    pub(crate) bootstrap_key_file: PathBuf,
    /// Settings, as TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How log lines look; the level is set by EMBERBOX_LOG (default: info).
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Let guests trust the certificate authorities this machine was made to
    /// trust; needed behind a proxy that opens TLS.
    #[arg(long)]
    pub(crate) trust_host_ca: bool,
    /// Ask the distribution for newer packages than those that are there.
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Settings, as TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Settings, as TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say whether guests that nobody trusts are safe to run here, and fail if
    /// not.
    #[arg(long)]
    pub(crate) production: bool,
    /// What the server will own, for --production.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/emberbox-server")]
    pub(crate) data_dir: PathBuf,
    /// Unsafe, but meant to be so, for --production; more than once for more.
    #[arg(long, value_name = "NAME", requires = "production")]
    pub(crate) accept: Vec<Item>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeploymentCommand {
    /// List deployments.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one deployment.
    Get {
        /// Which.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take deployments down; their sandboxes stay.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests;
