//! `emberbox key …`.

use anyhow::Result;
use emberbox_api::{ApiKey, CreateApiKey};

use crate::cli::KeyCommand;
use crate::{client, output};

/// Runs one of them.
pub(crate) async fn run(command: KeyCommand) -> Result<()> {
    let client = client::from_environment()?;
    match command {
        KeyCommand::Create {
            name,
            expires_in,
            json,
        } => {
            let request = CreateApiKey {
                name,
                expires_in_seconds: expires_in,
            };
            let made = client.create_key(&request).await?;
            if json {
                output::json(&made)
            } else {
                output::line(&made.key)
            }
        }
        KeyCommand::List { json } => {
            let keys = client.list_keys().await?;
            if json {
                return output::json(&keys);
            }
            let headings = ["ID", "NAME", "SECRET", "CREATED", "STATE"];
            output::table(&headings, keys.into_iter().map(row))
        }
        KeyCommand::Revoke { id } => Ok(client.revoke_key(&id).await?),
    }
}

fn row(key: ApiKey) -> Vec<String> {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "valid".to_owned(),
    };
    vec![
        key.id.to_string(),
        key.name,
        format!("{}…", key.prefix),
        key.created_at.to_string(),
        state,
    ]
}
