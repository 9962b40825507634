//! What can be typed about usage and credit.

use clap::{Args, Subcommand};
use emberbox_api::credit::micro;

#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// Which time: 7d, 24h or month-to-date.
    #[arg(long, default_value = "month-to-date")]
    pub(crate) period: String,
    /// Only this workspace.
    #[arg(long, value_name = "ID")]
    pub(crate) workspace: Option<String>,
    /// Only this project.
    #[arg(long, value_name = "ID")]
    pub(crate) project: Option<String>,
    /// What is summed up together: sandbox_id, workspace_id, project_id or one
    /// of the external ids.
    #[arg(long, value_name = "GROUP", default_value = "sandbox_id")]
    pub(crate) by: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CreditCommand {
    /// Show your tenant's balance, prices and latest entries.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a tenant credit; needs the operator's key.
    Grant(ChangeCredit),
    /// Put a tenant's balance right, up or down; needs the operator's key.
    Adjust(ChangeCredit),
}

#[derive(Debug, Args)]
pub(crate) struct ChangeCredit {
    /// Which tenant, as `whoami` shows it.
    pub(crate) tenant: String,
    /// How many credits, for example 12.50.
    #[arg(value_parser = credits, allow_hyphen_values = true)]
    pub(crate) amount: i64,
    /// Why.
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn credits(text: &str) -> Result<i64, String> {
    micro(text).ok_or_else(|| "it is not a number with at most six decimals".to_owned())
}
