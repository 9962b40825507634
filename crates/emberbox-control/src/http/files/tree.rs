//! A directory with what is below it, nested.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use emberbox_api::{Data, ErrorResponse, Time, Tree, TreeKind, TreeNode};
use emberbox_guest::{Entry, FileKind, FileStat, ListSpec};

use super::{ENTRIES_MAX, ListQuery, check_path, depth_or, download, file_name, modified};
use crate::Failure;
use crate::control::Control;
use crate::http::auth::Target;
use crate::http::json::QueryString;

/// How deep a tree goes when nothing is said (`client-contract.md`, "Files").
const DEPTH: u32 = 3;

/// Show a directory as a tree
#[utoipa::path(get, path = "/sandboxes/{id}/files/tree", tag = "files",
    params(("id" = String, Path, description = "Sandbox id"), ListQuery),
    responses((status = 200, body = Data<Tree>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn tree(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<ListQuery>,
    uri: OriginalUri,
) -> Result<Response, Failure> {
    // Without a path it is the download of a file that is called so.
    let Some(path) = query.path else {
        return download(State(control), target, uri).await;
    };
    let path = check_path(path)?;
    let depth = depth_or(query.depth.as_deref(), DEPTH)?;
    let spec = ListSpec {
        path: path.clone(),
        depth,
        limit: ENTRIES_MAX,
    };
    let guest = control.guest(&target.record)?;
    let (entries, truncated) = guest.list(spec).await?;
    let root = guest.stat(&path).await?;
    let data = Tree {
        root: grow(root, entries, depth),
        truncated,
    };
    Ok(Json(Data { data }).into_response())
}

/// Puts every entry under its directory.
fn grow(root: FileStat, entries: Vec<Entry>, depth: u32) -> TreeNode {
    let mut by_parent: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        let parent = parent(&entry.stat.path).to_owned();
        by_parent.entry(parent).or_default().push(entry);
    }
    let name = file_name(&root.path);
    node(name, root, &mut by_parent, depth)
}

/// A hostile guest lists what it likes: what is deeper than asked for is left
/// out.
fn node(
    name: String,
    stat: FileStat,
    by_parent: &mut BTreeMap<String, Vec<Entry>>,
    depth: u32,
) -> TreeNode {
    let mut children = Vec::new();
    if let Some(deeper) = depth.checked_sub(1) {
        let key = stat.path.trim_end_matches('/');
        let mut below = by_parent.remove(key).unwrap_or_default();
        below.sort_by(|a, b| a.name.cmp(&b.name));
        children.extend(
            below
                .into_iter()
                .map(|entry| node(entry.name, entry.stat, by_parent, deeper)),
        );
    }
    TreeNode {
        name,
        kind: match stat.kind {
            FileKind::File => TreeKind::File,
            FileKind::Directory => TreeKind::Dir,
            FileKind::Symlink => TreeKind::Symlink,
            FileKind::Other => TreeKind::Other,
        },
        size: stat.size,
        modified_at: Time(modified(stat.modified_unix_ns)),
        children,
        path: stat.path,
    }
}

/// The directory a path is in, without a slash at its end.
fn parent(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
