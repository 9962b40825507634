//! The snapshots of a sandbox.

use anyhow::Result;
use emberbox_api::client::Client;

use crate::output;

/// Shows them, or deletes one.
pub(super) async fn list_or_delete(
    client: &Client,
    id: &str,
    json: bool,
    delete: Option<&str>,
) -> Result<()> {
    if let Some(snapshot) = delete {
        client.delete_snapshot(id, snapshot).await?;
        return output::line(snapshot);
    }
    let snapshots = client.list_snapshots(id).await?;
    if json {
        return output::json(&snapshots);
    }
    let rows = snapshots.into_iter().map(|snapshot| {
        vec![
            snapshot.id.to_string(),
            format!("{} MiB", snapshot.size_bytes.div_ceil(1 << 20)),
            format!("{:.1} ms", snapshot.stopped_ms),
            snapshot.created_at.to_string(),
            output::on_one_line(&snapshot.comment.unwrap_or_default()),
        ]
    });
    output::table(&["ID", "SIZE", "STOPPED", "CREATED", "COMMENT"], rows)
}
