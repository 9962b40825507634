//! `emberbox key …`.

use anyhow::Result;
use emberbox_api::{ApiKey, CreateApiKey, CreatedApiKey, RotateApiKey, UpdateApiKey};

use crate::cli::KeyCommand;
use crate::{client, output};

/// Runs one of them.
pub(crate) async fn run(command: KeyCommand) -> Result<()> {
    let client = client::from_environment()?;
    match command {
        KeyCommand::Create {
            name,
            expires_in,
            scopes,
            workspace,
            user,
            tenant,
            json,
        } => {
            let request = CreateApiKey {
                name,
                expires_in_seconds: expires_in,
                scopes: given(scopes),
                workspace_id: workspace,
                user_id: user,
            };
            let made = match tenant {
                None => client.create_key(&request).await?,
                Some(tenant) => client.create_key_of(&tenant, &request).await?,
            };
            show_secret(&made, json)
        }
        KeyCommand::List { tenant, json } => {
            let keys = match tenant {
                None => client.list_keys().await?,
                Some(tenant) => client.keys_of(&tenant).await?,
            };
            if json {
                return output::json(&keys);
            }
            let headings = ["ID", "NAME", "SECRET", "SCOPES", "CREATED", "STATE"];
            output::table(&headings, keys.into_iter().map(row))
        }
        KeyCommand::Update {
            id,
            name,
            expires_in,
            scopes,
            json,
        } => {
            let change = UpdateApiKey {
                name,
                scopes: given(scopes),
                expires_in_seconds: expires_in.map(Some),
            };
            let key = client.update_key(&id, &change).await?;
            if json { output::json(&key) } else { Ok(()) }
        }
        KeyCommand::Rotate { id, overlap, json } => {
            let request = RotateApiKey {
                overlap_seconds: overlap,
            };
            show_secret(&client.rotate_key(&id, &request).await?, json)
        }
        KeyCommand::Revoke { id } => Ok(client.revoke_key(&id).await?),
    }
}

/// A list with nothing in it was not given.
fn given(scopes: Vec<String>) -> Option<Vec<String>> {
    (!scopes.is_empty()).then_some(scopes)
}

fn show_secret(made: &CreatedApiKey, json: bool) -> Result<()> {
    if json {
        output::json(made)
    } else {
        output::line(&made.key)
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
        output::on_one_line(&key.name),
        format!("{}…", key.prefix),
        key.scopes.to_string(),
        key.created_at.to_string(),
        state,
    ]
}
