//! `emberbox template …`.

use anyhow::Result;

use crate::cli::TemplateCommand;
use crate::{client, output};

/// Runs one of them.
pub(crate) async fn run(command: TemplateCommand) -> Result<()> {
    let TemplateCommand::List { json } = command;
    let list = client::from_environment()?.list_templates().await?;
    if json {
        return output::json(&list);
    }
    let rows = list.data.into_iter().map(|template| {
        let port = template.preview_port.map(|port| port.to_string());
        vec![
            template.id,
            template.category,
            template.image_id.unwrap_or_default(),
            port.unwrap_or_default(),
            template.description,
        ]
    });
    output::table(&["ID", "CATEGORY", "IMAGE", "PORT", "DESCRIPTION"], rows)
}
