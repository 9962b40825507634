//! What happens in a directory, as it happens.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{ErrorResponse, FileEvent, FileEventKind};
use emberbox_guest::client::WatchCall;
use emberbox_guest::{ChangeKind, FileChange, WatchEvent, WatchSpec};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{DEFAULT_DIR, check_path};
use crate::Failure;
use crate::control::Control;
use crate::http::auth::StreamTarget;
use crate::http::json::QueryString;
use crate::http::sse;

/// How a directory may be watched.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct WatchQuery {
    /// An absolute path of a directory; `/workspace` when absent.
    path: Option<String>,
    /// `true` or `false`: whether what is below counts as well; true when
    /// absent.
    recursive: Option<String>,
}

/// Follow what happens in a directory. A file that is called `/watch` cannot
/// be downloaded under this address
#[utoipa::path(get, path = "/sandboxes/{id}/files/watch", tag = "files",
    params(("id" = String, Path, description = "Sandbox id"), WatchQuery,
        ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream", body = FileEvent,
            description = "`created`, `modified`, `deleted`, `renamed` with `old_path`, and \
                `overflow` when some are missing; ends when the directory itself is gone"),
        (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn watch(
    State(control): State<Arc<Control>>,
    StreamTarget(target): StreamTarget,
    QueryString(query): QueryString<WatchQuery>,
) -> Result<Response, Failure> {
    let path = query.path.filter(|path| !path.is_empty());
    let path = check_path(path.unwrap_or_else(|| DEFAULT_DIR.to_owned()))?;
    let recursive = match query.recursive.as_deref() {
        None | Some("" | "true" | "1") => true,
        Some("false" | "0") => false,
        Some(_) => return Err(Failure::invalid_field("recursive", "must be true or false")),
    };
    let spec = WatchSpec {
        path: path.clone(),
        recursive,
    };
    let call = control.guest(&target.record)?.watch(spec).await?;
    let following = Following {
        call,
        path,
        waiting: VecDeque::new(),
        over: false,
    };
    Ok(sse::respond(&control, target.caller, events(following)))
}

/// Dropping it drops the call, which ends it in the guest.
struct Following {
    call: WatchCall,
    path: String,
    waiting: VecDeque<Event>,
    over: bool,
}

fn events(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, async |mut following| {
        while following.waiting.is_empty() && !following.over {
            following.advance().await;
        }
        let event = following.waiting.pop_front()?;
        Some((event, following))
    })
}

impl Following {
    async fn advance(&mut self) {
        match self.call.next().await {
            Ok(Some(events)) => {
                let path = &self.path;
                let events = events.into_iter().map(|event| show(path, event));
                self.waiting.extend(events);
            }
            Ok(None) => self.over = true,
            Err(lost) => {
                self.waiting.push_back(sse::error(&lost.into()));
                self.over = true;
            }
        }
    }
}

fn show(watched: &str, event: WatchEvent) -> Event {
    let data = match event {
        WatchEvent::Changed(change) => changed(change),
        WatchEvent::Overflow => FileEvent {
            event: FileEventKind::Overflow,
            kind: FileEventKind::Overflow,
            path: watched.to_owned(),
            is_dir: true,
            old_path: None,
            size_bytes: None,
        },
    };
    sse::event(data.event.as_str(), &data)
}

fn changed(change: FileChange) -> FileEvent {
    let (kind, old_path) = match change.kind {
        ChangeKind::Created => (FileEventKind::Created, None),
        ChangeKind::Modified => (FileEventKind::Modified, None),
        ChangeKind::Deleted => (FileEventKind::Deleted, None),
        ChangeKind::Renamed { from } => (FileEventKind::Renamed, Some(from)),
    };
    FileEvent {
        event: kind,
        kind,
        path: change.path,
        is_dir: change.is_dir,
        old_path,
        size_bytes: change.size,
    }
}
