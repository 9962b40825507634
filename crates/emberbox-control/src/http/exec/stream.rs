//! A command's output while it runs.
//!
//! ```text
//! stdout {line} | stderr {line} …, then exit {exit_code}
//!                                  or error {code, message}, exit {124}
//!                                  or error {code, message}: the outcome is unknown
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{ErrorResponse, ExecRequest, OutputLine, OutputName};
use emberbox_guest::OutputStream;
use emberbox_guest::client::ExecEvent;
use futures_util::stream::{self, Stream};
use serde_json::json;

use super::lines::{Line, Lines};
use super::parse;
use crate::Failure;
use crate::control::{Control, Ending, RunningExec, TIMED_OUT};
use crate::http::auth::Target;
use crate::http::json::JsonBody;
use crate::http::sse;

/// Run a command and follow its output
#[utoipa::path(post, path = "/sandboxes/{id}/exec/stream", tag = "exec",
    params(("id" = String, Path, description = "Sandbox id")), request_body = ExecRequest,
    responses((status = 200, content_type = "text/event-stream",
            description = "`stdout` and `stderr` with `line` (and `newline: false` when \
                no `\\n` followed it), then `exit` with `exit_code`; \
                `error` with `code` and `message` when it ran over its time or was lost"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn stream(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<ExecRequest>,
) -> Result<Response, Failure> {
    let spec = parse(body, &control.limits(&target.caller))?;
    let running = control.begin_exec(&target.record, spec).await?;
    Ok(sse::respond(&control, target.caller, events(running)))
}

/// Dropping the stream drops the command, which ends it.
fn events(running: RunningExec) -> impl Stream<Item = Event> {
    let state = Following {
        running,
        stdout: Lines::default(),
        stderr: Lines::default(),
        waiting: VecDeque::new(),
        over: false,
    };
    stream::unfold(state, async |mut state| {
        while state.waiting.is_empty() && !state.over {
            state.advance().await;
        }
        let event = state.waiting.pop_front()?;
        Some((event, state))
    })
}

struct Following {
    running: RunningExec,
    stdout: Lines,
    stderr: Lines,
    waiting: VecDeque<Event>,
    over: bool,
}

impl Following {
    async fn advance(&mut self) {
        match self.running.next().await {
            Ok(ExecEvent::Output(stream, data)) => {
                let lines = match stream {
                    OutputStream::Stdout => &mut self.stdout,
                    OutputStream::Stderr => &mut self.stderr,
                };
                let lines = lines.push(&data);
                self.waiting
                    .extend(lines.into_iter().map(|part| line(stream, part, None)));
            }
            Ok(ExecEvent::Exited(status)) => {
                self.rest();
                let code = match self.running.ending(status) {
                    Ending::Code(code) => code,
                    Ending::TimedOut(failure) => {
                        self.waiting.push_back(sse::error(&failure));
                        TIMED_OUT
                    }
                };
                let exit = json!({ "type": "exit", "exit_code": code });
                self.waiting.push_back(sse::event("exit", &exit));
                self.over = true;
            }
            Err(lost) => {
                self.rest();
                self.waiting.push_back(sse::error(&lost));
                self.over = true;
            }
        }
    }

    fn rest(&mut self) {
        for (stream, lines) in [
            (OutputStream::Stdout, &mut self.stdout),
            (OutputStream::Stderr, &mut self.stderr),
        ] {
            self.waiting
                .extend(lines.rest().map(|part| line(stream, part, None)));
        }
    }
}

/// A piece of output as an event.
pub(in crate::http) fn line(stream: OutputStream, line: Line, offset: Option<u64>) -> Event {
    let stream = match stream {
        OutputStream::Stdout => OutputName::Stdout,
        OutputStream::Stderr => OutputName::Stderr,
    };
    let data = OutputLine {
        stream,
        line: line.text,
        newline: line.newline,
        offset,
    };
    sse::event(stream.as_str(), &data)
}
