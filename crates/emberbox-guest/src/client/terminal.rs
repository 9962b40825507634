//! Terminals, seen from the host.

use bytes::Bytes;
use std::time::Duration;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::{
    ANSWER, ClientError, ExitStatus, FromAgent, GuestClient, Request, ToAgent, frame, within,
};
use crate::message::CHUNK;
use crate::{TerminalRequest, TerminalSize, TerminalSpec};

/// How long closing may take: the session is asked first.
const CLOSE: Duration = Duration::from_secs(30);

impl GuestClient {
    /// Starts a shell on a new terminal.
    pub async fn open_terminal(&self, spec: TerminalSpec) -> Result<(), ClientError> {
        let request = TerminalRequest::Open(spec);
        self.plain(Request::Terminal(request), ANSWER).await
    }

    /// Looks at a terminal, in place of who did before. Dropping both halves
    /// leaves the terminal running, for a while.
    pub async fn attach_terminal(
        &self,
        id: u64,
        size: Option<TerminalSize>,
    ) -> Result<(TerminalInput, TerminalOutput), ClientError> {
        let request = TerminalRequest::Attach { id, size };
        // Split in two, it never goes back to the pool.
        let mut call = self.begin_fresh(Request::Terminal(request)).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Done => {}
            _ => return Err(ClientError::Unexpected),
        }
        let ended = call.shared.ended.subscribe();
        let (reader, writer) = call.into_stream().into_split();
        let input = TerminalInput { writer };
        let output = TerminalOutput {
            reader,
            buffer: Vec::new(),
            ended,
        };
        Ok((input, output))
    }

    /// Ends a terminal and everything in its session.
    pub async fn close_terminal(&self, id: u64) -> Result<(), ClientError> {
        let request = TerminalRequest::Close { id };
        self.plain(Request::Terminal(request), CLOSE).await
    }
}

/// The keyboard of a terminal.
pub struct TerminalInput {
    writer: OwnedWriteHalf,
}

impl TerminalInput {
    /// Types bytes, any number; waits while the guest is busy.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), ClientError> {
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(CHUNK));
            self.send(&ToAgent::Data(chunk)).await?;
        }
        Ok(())
    }

    /// Tells the size of who looks.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.send(&ToAgent::Resize(size)).await
    }

    async fn send(&mut self, message: &ToAgent) -> Result<(), ClientError> {
        within(ANSWER, frame::write(&mut self.writer, message)).await
    }
}

/// The screen of a terminal.
pub struct TerminalOutput {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    ended: watch::Receiver<bool>,
}

/// What a terminal does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// It shows this.
    Output(Bytes),
    /// Its shell ended; nothing follows.
    Exited(ExitStatus),
    /// Somebody else looks at it now; nothing follows.
    TakenOver,
}

impl TerminalOutput {
    /// The next event, however long it takes. Not cancel-safe.
    pub async fn next(&mut self) -> Result<TerminalEvent, ClientError> {
        let answer = tokio::select! {
            // What is there counts even if the guest is gone by now.
            biased;
            answer = frame::read(&mut self.reader, &mut self.buffer) => answer?,
            _ = self.ended.wait_for(|ended| *ended) => return Err(ClientError::Ended),
        };
        match answer {
            FromAgent::Output { data, .. } if data.len() <= CHUNK => {
                Ok(TerminalEvent::Output(data))
            }
            FromAgent::Exited(status) => Ok(TerminalEvent::Exited(status)),
            FromAgent::End { .. } => Ok(TerminalEvent::TakenOver),
            FromAgent::Failed(error) => Err(error.into()),
            _ => Err(ClientError::Unexpected),
        }
    }
}
