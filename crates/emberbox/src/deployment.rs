//! `emberbox deployment …`.

use anyhow::Result;
use emberbox_api::{Deployment, DeploymentState};

use crate::cli::DeploymentCommand;
use crate::{client, output};

/// Runs one of them.
pub(crate) async fn run(command: DeploymentCommand) -> Result<()> {
    let client = client::from_environment()?;
    match command {
        DeploymentCommand::List { json } => {
            let deployments = client.list_deployments().await?;
            if json {
                return output::json(&deployments);
            }
            let headings = ["ID", "NAME", "STATE", "SANDBOX", "PORT", "URL"];
            output::table(&headings, deployments.into_iter().map(row))
        }
        DeploymentCommand::Get { id, json } => {
            let deployment = client.get_deployment(&id).await?;
            if json {
                return output::json(&deployment);
            }
            show(&deployment)
        }
        DeploymentCommand::Rm { ids } => {
            for id in ids {
                client.delete_deployment(&id).await?;
                output::line(id)?;
            }
            Ok(())
        }
    }
}

fn row(deployment: Deployment) -> Vec<String> {
    vec![
        deployment.id.to_string(),
        deployment.name,
        state(deployment.state).to_owned(),
        deployment.sandbox_id.to_string(),
        deployment.port.to_string(),
        deployment.public_url,
    ]
}

fn show(deployment: &Deployment) -> Result<()> {
    let port = deployment.port.to_string();
    let (created, changed) = (
        deployment.created_at.to_string(),
        deployment.updated_at.to_string(),
    );
    output::fields(&[
        ("id", Some(deployment.id.as_str())),
        ("name", Some(&deployment.name)),
        ("state", Some(state(deployment.state))),
        ("sandbox", Some(deployment.sandbox_id.as_str())),
        ("port", Some(&port)),
        ("url", Some(&deployment.url)),
        ("domain", deployment.custom_domain.as_deref()),
        ("created", Some(&created)),
        ("changed", Some(&changed)),
    ])
}

fn state(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Pending => "pending",
        DeploymentState::Running => "running",
        DeploymentState::Stopped => "stopped",
        DeploymentState::Failed => "failed",
    }
}
