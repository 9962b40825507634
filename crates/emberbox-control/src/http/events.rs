//! What happens to a sandbox, as it happens.
//!
//! ```text
//! store: state_changed, error ──┐
//!                               ├─▶ by time ─▶ events, until destroyed or error
//! feed: exec_output ────────────┘
//! ```
//!
//! An event's id is `<store's id>-<feed's number>`: where to read on in both.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{ErrorResponse, Time};
use emberbox_core::{SandboxId, SandboxState};
use emberbox_guest::OutputStream;
use emberbox_store::{EventKind, EventRecord, SandboxRecord};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{broadcast, watch};

use super::auth::StreamTarget;
use super::sse;
use crate::Failure;
use crate::control::{Control, Feed, Piece, next_change};

/// Follow what happens to a sandbox
#[utoipa::path(get, path = "/sandboxes/{id}/events", tag = "sandboxes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("Last-Event-ID" = Option<String>, Header, description = "Where to read on; without it the present state comes first, after the error that led to it"),
        ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`state_changed`, `exec_output`, `error`; ends at destroyed or error"),
        (status = 404, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn stream(
    State(control): State<Arc<Control>>,
    StreamTarget(target): StreamTarget,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let feed = control.feed(&target.record);
    let SandboxRecord { id, state, .. } = target.record;
    let position = match headers.get("last-event-id") {
        Some(last) => {
            let last = last.to_str().ok().and_then(Position::parse);
            last.ok_or_else(|| Failure::invalid_field("Last-Event-ID", "is none of this stream"))?
        }
        None => Position {
            event: control.store().before_last_change(&id).await?,
            piece: feed.newest(),
        },
    };
    let stored = control.store().sandbox_events(&id, position.event).await?;
    let following = Following {
        // Who has seen the last event waits for none.
        over: is_last(state) && stored.is_empty(),
        changes: control.changes(),
        news: feed.subscribe(),
        control: Arc::clone(&control),
        feed,
        id,
        position,
        waiting: VecDeque::new(),
    };
    Ok(sse::respond(&control, target.caller, events(following)))
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    event: i64,
    piece: u64,
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let (event, piece) = text.split_once('-')?;
        Some(Self {
            event: event.parse().ok()?,
            piece: piece.parse().ok()?,
        })
    }
}

struct Following {
    control: Arc<Control>,
    changes: broadcast::Receiver<SandboxId>,
    feed: Arc<Feed>,
    news: watch::Receiver<u64>,
    id: SandboxId,
    position: Position,
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
    /// Reads what is new, or waits for it.
    async fn advance(&mut self) {
        self.news.mark_unchanged();
        let stored = self.control.store();
        let stored = match stored.sandbox_events(&self.id, self.position.event).await {
            Ok(stored) => stored,
            Err(error) => {
                // The client comes back with the last id it has.
                tracing::error!(
                    error = Failure::from(error).chain(),
                    "events cannot be read"
                );
                self.over = true;
                return;
            }
        };
        let pieces = self.feed.after(self.position.piece);
        if stored.is_empty() && pieces.is_empty() {
            tokio::select! {
                () = next_change(&mut self.changes, &self.id) => {}
                changed = self.news.changed() => if changed.is_err() {
                    next_change(&mut self.changes, &self.id).await;
                }
            }
            return;
        }
        self.take(stored, &pieces);
    }

    fn take(&mut self, stored: Vec<EventRecord>, pieces: &[Arc<Piece>]) {
        let mut pieces = pieces.iter().peekable();
        for record in stored {
            while let Some(piece) = pieces.next_if(|piece| piece.at <= record.at) {
                self.output(piece);
            }
            self.happened(&record);
            if self.over {
                return;
            }
        }
        for piece in pieces {
            self.output(piece);
        }
    }

    fn happened(&mut self, record: &EventRecord) {
        self.position.event = record.id;
        let (name, data) = match &record.kind {
            EventKind::StateChanged { state, previous } => {
                self.over = is_last(*state);
                let data = json!({
                    "state": state,
                    "previous_state": previous,
                    "timestamp": Time(record.at),
                });
                ("state_changed", data)
            }
            EventKind::Error { message } => {
                let data = json!({ "message": message, "timestamp": Time(record.at) });
                ("error", data)
            }
        };
        self.push(sse::event(name, &data));
    }

    fn output(&mut self, piece: &Piece) {
        self.position.piece = piece.number;
        let stream = match piece.stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        let data = json!({
            "exec_id": &*piece.exec_id,
            "stream": stream,
            "data": piece.data,
            "timestamp": Time(piece.at),
        });
        self.push(sse::event("exec_output", &data));
    }

    fn push(&mut self, event: Event) {
        let Position { event: at, piece } = self.position;
        self.waiting.push_back(event.id(format!("{at}-{piece}")));
    }
}

/// Whether the stream closes by itself (`reference.txt`, "Subscribe to Events").
fn is_last(state: SandboxState) -> bool {
    match state {
        SandboxState::Destroyed | SandboxState::Error => true,
        SandboxState::Provisioning | SandboxState::Running | SandboxState::Paused => false,
    }
}
