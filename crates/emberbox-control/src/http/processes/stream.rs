//! The output of a background process as it comes.
//!
//! ```text
//! stdout {line, offset} | stderr {line, offset} | gap {missed, offset} …,
//!                             then exit {exit_code} or error {code, message}
//! ```
//!
//! An event's id says where to read on, in bytes over both streams. Where a
//! line of one stream is still open when the other one's ends, it is two
//! numbers: one for each stream.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::ErrorResponse;
use emberbox_guest::OutputStream;
use emberbox_guest::client::{ProcessEvent, ProcessFollow};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::Pid;
use crate::Failure;
use crate::control::{Control, exit_code};
use crate::http::auth::StreamTarget;
use crate::http::exec::{self, Line, Lines};
use crate::http::json::QueryString;
use crate::http::sse;

/// How the stream may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct StreamQuery {
    /// The first byte that is wanted; 0 when absent.
    offset: Option<String>,
}

/// Follow the output of a background process
#[utoipa::path(get, path = "/sandboxes/{id}/processes/{pid}/stream", tag = "processes",
    params(("id" = String, Path, description = "Sandbox id"),
        ("pid" = u32, Path, description = "Process id"), StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Where to read on; wins over `offset`"),
        ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`stdout` and `stderr` with `line` and the `offset` after it, `gap` with \
                the bytes `missed`, then `exit` with `exit_code`"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn stream(
    State(control): State<Arc<Control>>,
    StreamTarget(target): StreamTarget,
    Pid(pid): Pid,
    QueryString(query): QueryString<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (field, text) = match headers.get("last-event-id") {
        Some(last) => ("Last-Event-ID", last.to_str().ok()),
        None => ("offset", Some(query.offset.as_deref().unwrap_or("0"))),
    };
    let position = text.and_then(Position::parse);
    let position =
        position.ok_or_else(|| Failure::invalid_field(field, "is no offset of this stream"))?;
    let guest = control.guest(&target.record)?;
    let follow = guest.follow_process(pid, position.first()).await?;
    Ok(sse::respond(
        &control,
        target.caller,
        events(follow, position),
    ))
}

/// The first byte of each stream that was not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

impl Position {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (stdout, stderr) = text.split_once('-').unwrap_or((text, text));
        Some(Self {
            stdout: stdout.parse().ok()?,
            stderr: stderr.parse().ok()?,
        })
    }

    fn first(self) -> u64 {
        self.stdout.min(self.stderr)
    }

    fn of(self, stream: OutputStream) -> u64 {
        match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.stdout == self.stderr {
            write!(f, "{}", self.stdout)
        } else {
            write!(f, "{}-{}", self.stdout, self.stderr)
        }
    }
}

fn events(follow: ProcessFollow, position: Position) -> impl Stream<Item = Event> {
    let following = Following {
        follow,
        output: Output::new(position),
        over: false,
    };
    stream::unfold(following, async |mut following| {
        while following.output.waiting.is_empty() && !following.over {
            following.advance().await;
        }
        let told = following.output.waiting.pop_front()?;
        Some((told.event(), following))
    })
}

struct Following {
    follow: ProcessFollow,
    output: Output,
    over: bool,
}

impl Following {
    async fn advance(&mut self) {
        let last = match self.follow.next().await {
            Ok(ProcessEvent::Output {
                offset,
                stream,
                data,
            }) => return self.output.push(offset, stream, &data),
            Ok(ProcessEvent::Exited(status)) => Some(Told::Exit(exit_code(status))),
            Ok(ProcessEvent::End) => None,
            Err(error) => Some(Told::Lost(error.into())),
        };
        self.output.close();
        self.output.waiting.extend(last);
        self.over = true;
    }
}

/// Something to tell, and where to read on after it.
#[derive(Debug)]
pub(super) enum Told {
    Line(OutputStream, Line, Position),
    Gap(u64, Position),
    Exit(i32),
    Lost(Failure),
}

impl Told {
    /// The type stands inside as well: one of the clients drops the event's
    /// name.
    fn event(self) -> Event {
        match self {
            Self::Line(stream, part, after) => {
                exec::line(stream, part, Some(after.of(stream))).id(after.to_string())
            }
            Self::Gap(missed, after) => {
                let data = json!({ "type": "gap", "missed": missed, "offset": after.first() });
                sse::event("gap", &data).id(after.to_string())
            }
            Self::Exit(code) => sse::event("exit", &json!({ "type": "exit", "exit_code": code })),
            Self::Lost(failure) => sse::error(&failure),
        }
    }
}

/// Turns pieces into lines that know where they end.
pub(super) struct Output {
    from: Position,
    /// The end of what was seen.
    seen: u64,
    stdout: OpenLine,
    stderr: OpenLine,
    pub(super) waiting: VecDeque<Told>,
}

#[derive(Default)]
struct OpenLine {
    lines: Lines,
    /// Where the line begins that has no end yet.
    begins: Option<u64>,
}

impl Output {
    pub(super) fn new(from: Position) -> Self {
        Self {
            from,
            seen: from.first(),
            stdout: OpenLine::default(),
            stderr: OpenLine::default(),
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn push(&mut self, offset: u64, stream: OutputStream, data: &[u8]) {
        if offset > self.seen {
            self.close();
            let missed = offset - self.seen;
            self.seen = offset;
            self.waiting.push_back(Told::Gap(missed, self.position()));
        }
        // What was told before the client came back is in the way of the rest.
        let told = self.from.of(stream).saturating_sub(offset);
        let told = usize::try_from(told).map_or(data.len(), |told| told.min(data.len()));
        self.seen = offset + told as u64;
        for part in data[told..].split_inclusive(|byte| *byte == b'\n') {
            let begins = self.seen;
            self.seen += part.len() as u64;
            let open = self.open(stream);
            let lines = open.lines.push(part);
            if !lines.is_empty() {
                open.begins = None;
            }
            if open.lines.is_open() {
                open.begins.get_or_insert(begins);
            }
            self.tell(stream, lines);
        }
    }

    /// Lines without an end end here.
    pub(super) fn close(&mut self) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let open = self.open(stream);
            let rest = open.lines.rest();
            open.begins = None;
            self.tell(stream, rest);
        }
    }

    fn tell(&mut self, stream: OutputStream, lines: impl IntoIterator<Item = Line>) {
        let after = self.position();
        for line in lines {
            self.waiting.push_back(Told::Line(stream, line, after));
        }
    }

    fn position(&self) -> Position {
        // A stream of which nothing came since the client came back is where
        // it was then.
        Position {
            stdout: self
                .stdout
                .begins
                .unwrap_or(self.seen.max(self.from.stdout)),
            stderr: self
                .stderr
                .begins
                .unwrap_or(self.seen.max(self.from.stderr)),
        }
    }

    fn open(&mut self, stream: OutputStream) -> &mut OpenLine {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }
}
