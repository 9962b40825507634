//! `emberbox usage` and `emberbox credit …`.

use anyhow::Result;
use emberbox_api::credit::decimal;
use emberbox_api::{ChangeCredits, CreditEntry, Credits, UsageGroup, UsageTotals};

use crate::cli::{ChangeCredit, CreditCommand, Usage};
use crate::{client, output};

/// Bytes of a MiB.
const MIB: i64 = 1 << 20;

/// Shows what was used.
pub(crate) async fn usage(arguments: Usage) -> Result<()> {
    let client = client::from_environment()?;
    let mut query = vec![("period", arguments.period), ("group_by", arguments.by)];
    query.extend(arguments.workspace.map(|id| ("workspace_id", id)));
    query.extend(arguments.project.map(|id| ("project_id", id)));
    let report = client.usage(&query).await?;
    if arguments.json {
        return output::json(&report);
    }
    let headings = ["GROUP", "RUNTIME", "VCPU-SEC", "EGRESS-MIB", "CREDITS"];
    output::table(&headings, report.results.into_iter().map(group_row))
}

fn group_row(group: UsageGroup) -> Vec<String> {
    let UsageTotals {
        runtime_sec,
        provisioned_vcpu_ms,
        network_egress_bytes,
        charged_micro,
        ..
    } = group.totals;
    vec![
        group.group.unwrap_or_else(|| "-".to_owned()),
        format!("{runtime_sec} s"),
        (provisioned_vcpu_ms / 1000).to_string(),
        (network_egress_bytes / MIB).to_string(),
        decimal(charged_micro),
    ]
}

/// Runs one of them.
pub(crate) async fn credit(command: CreditCommand) -> Result<()> {
    let client = client::from_environment()?;
    let (kind, change) = match command {
        CreditCommand::Show { json } => {
            let account = client.credits().await?;
            return if json {
                output::json(&account)
            } else {
                show(account)
            };
        }
        CreditCommand::Grant(change) => ("grant", change),
        CreditCommand::Adjust(change) => ("adjustment", change),
    };
    let ChangeCredit {
        tenant,
        amount,
        note,
        json,
    } = change;
    let request = ChangeCredits {
        amount_micro: amount,
        kind: Some(kind.to_owned()),
        note,
    };
    let entry = client.change_credits(&tenant, &request).await?;
    if json {
        output::json(&entry)
    } else {
        output::line(decimal(entry.balance_micro))
    }
}

fn show(account: Credits) -> Result<()> {
    let balance = if account.enforced {
        account.balance
    } else {
        format!("{} (not enforced)", account.balance)
    };
    output::fields(&[("balance", Some(&balance))])?;
    if account.entries.is_empty() {
        return Ok(());
    }
    let headings = ["WHEN", "KIND", "CREDITS", "BALANCE", "FOR"];
    output::table(&headings, account.entries.into_iter().map(entry_row))
}

fn entry_row(entry: CreditEntry) -> Vec<String> {
    let sandbox = entry.sandbox_id.map(|id| id.to_string());
    let why = entry.note.map(|note| output::on_one_line(&note));
    vec![
        entry.created_at.to_string(),
        entry.kind,
        decimal(entry.amount_micro),
        decimal(entry.balance_micro),
        why.or(sandbox).unwrap_or_default(),
    ]
}
