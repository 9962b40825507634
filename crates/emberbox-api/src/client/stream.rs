//! Following what a server tells as it happens.

use std::pin::Pin;

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};
use reqwest::{RequestBuilder, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ClientError, send};
use crate::{
    BuildEvent, ExecOutput, ExitData, FileEvent, Gap, LogLine, OutputLine, SandboxError,
    StateChanged, StreamError,
};

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEvent {
    /// It wrote this.
    Line(OutputLine),
    /// Output is missing here: it is no longer kept.
    Gap(Gap),
    /// It ended.
    Exit(ExitData),
    /// It had to be ended, then an exit follows, or its end is unknown.
    Error(StreamError),
}

/// What happens to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum SandboxEvent {
    /// Its state changed.
    StateChanged(StateChanged),
    /// A command wrote something.
    ExecOutput(ExecOutput),
    /// Something went wrong.
    Error(SandboxError),
}

/// What happens in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryEvent {
    /// A path changed.
    Change(FileEvent),
    /// No more can be told.
    Error(StreamError),
}

type Events = Pin<Box<dyn Stream<Item = Result<Event, EventStreamError<reqwest::Error>>> + Send>>;

/// One event, read; `None` for one whose name this client does not know, as a
/// newer server may send.
type Read<T> = fn(&Event) -> Result<Option<T>, serde_json::Error>;

/// Events as they come. Dropping it closes the connection.
pub struct EventStream<T> {
    events: Events,
    read: Read<T>,
}

impl<T> EventStream<T> {
    pub(super) async fn open(request: RequestBuilder, read: Read<T>) -> Result<Self, ClientError> {
        let request = request.header(header::ACCEPT, "text/event-stream");
        let response = send(request).await?;
        let status = response.status().as_u16();
        let kind = response.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return Err(ClientError::NotOurs { status });
        }
        Ok(Self {
            events: Box::pin(response.bytes_stream().eventsource()),
            read,
        })
    }

    /// The next event, or `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        let not_ours = || ClientError::NotOurs { status: 200 };
        loop {
            let event = match self.events.next().await {
                None => return Ok(None),
                Some(Ok(event)) => event,
                Some(Err(EventStreamError::Transport(error))) => return Err(error.into()),
                Some(Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_))) => {
                    return Err(not_ours());
                }
            };
            if let Some(known) = (self.read)(&event).map_err(|_| not_ours())? {
                return Ok(Some(known));
            }
        }
    }
}

pub(super) fn command(event: &Event) -> Result<Option<CommandEvent>, serde_json::Error> {
    Ok(Some(match event.event.as_str() {
        "stdout" | "stderr" => CommandEvent::Line(data(event)?),
        "gap" => CommandEvent::Gap(data(event)?),
        "exit" => CommandEvent::Exit(data(event)?),
        "error" => CommandEvent::Error(data(event)?),
        _ => return Ok(None),
    }))
}

pub(super) fn sandbox(event: &Event) -> Result<Option<SandboxEvent>, serde_json::Error> {
    Ok(Some(match event.event.as_str() {
        "state_changed" => SandboxEvent::StateChanged(data(event)?),
        "exec_output" => SandboxEvent::ExecOutput(data(event)?),
        "error" => SandboxEvent::Error(data(event)?),
        _ => return Ok(None),
    }))
}

pub(super) fn directory(event: &Event) -> Result<Option<DirectoryEvent>, serde_json::Error> {
    Ok(Some(match event.event.as_str() {
        "created" | "modified" | "deleted" | "renamed" | "overflow" => {
            DirectoryEvent::Change(data(event)?)
        }
        "error" => DirectoryEvent::Error(data(event)?),
        _ => return Ok(None),
    }))
}

pub(super) fn build_event(event: &Event) -> Result<Option<BuildEvent>, serde_json::Error> {
    match event.event.as_str() {
        "build_event" => data(event).map(Some),
        _ => Ok(None),
    }
}

pub(super) fn log(event: &Event) -> Result<Option<LogLine>, serde_json::Error> {
    match event.event.as_str() {
        "log" => data(event),
        _ => Ok(None),
    }
}

fn data<T: DeserializeOwned>(event: &Event) -> Result<T, serde_json::Error> {
    serde_json::from_str(&event.data)
}
