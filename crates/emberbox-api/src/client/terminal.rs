//! Terminals of a sandbox.

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, StatusCode, Upgraded, header};
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Client, ClientError, of_sandbox, refusal, send};
use crate::{OpenTerminal, Terminal};

/// Most bytes typed in one message: well under what the server takes.
const TYPED_MAX: usize = 64 * 1024;

/// What the server says before the code when a shell has ended.
const EXITED: &str = "exit code ";

impl Client {
    /// Starts a shell on a new terminal.
    pub async fn open_terminal(
        &self,
        id: &str,
        request: &OpenTerminal,
    ) -> Result<Terminal, ClientError> {
        self.post(&of_sandbox(id, "terminal"), request).await
    }

    /// Looks at a terminal, in place of who did before. Dropping both halves
    /// leaves it running, for a while.
    pub async fn attach_terminal(
        &self,
        id: &str,
        session_id: &str,
    ) -> Result<(TerminalInput, TerminalOutput), ClientError> {
        let key = generate_key();
        let path = of_sandbox(id, &format!("terminal/stream?session_id={session_id}"));
        let response = self
            .request(Method::GET, &path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key)
            .send()
            .await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await?);
        }
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        let expected = derive_accept_key(key.as_bytes());
        if accepted.is_none_or(|accepted| accepted != expected.as_str()) {
            let status = response.status().as_u16();
            return Err(ClientError::NotOurs { status });
        }
        let stream = response.upgrade().await?;
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let (sink, stream) = socket.split();
        Ok((TerminalInput { sink }, TerminalOutput { stream }))
    }

    /// Ends a terminal and everything in its session.
    pub async fn close_terminal(&self, id: &str, session_id: &str) -> Result<(), ClientError> {
        let path = of_sandbox(id, &format!("terminal/{session_id}"));
        send(self.request(Method::DELETE, &path)).await.map(drop)
    }
}

/// The keyboard of a terminal.
pub struct TerminalInput {
    sink: SplitSink<WebSocketStream<Upgraded>, Message>,
}

impl TerminalInput {
    /// Types bytes, any number; waits while the sandbox does not take them.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), ClientError> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(TYPED_MAX));
            self.send(Message::Binary(piece)).await?;
        }
        Ok(())
    }

    /// Tells the size of who looks.
    pub async fn resize(&mut self, cols: u16, rows: u16) -> Result<(), ClientError> {
        let resize = json!({ "type": "resize", "cols": cols, "rows": rows });
        self.send(Message::text(resize.to_string())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        self.sink.send(message).await.map_err(broken)
    }
}

/// The screen of a terminal.
pub struct TerminalOutput {
    stream: SplitStream<WebSocketStream<Upgraded>>,
}

/// What a terminal does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// It shows this.
    Output(Bytes),
    /// Its shell ended with this code; nothing follows.
    Exited(i32),
    /// It is shown here no more, for this reason; nothing follows.
    Closed(String),
}

impl TerminalOutput {
    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Result<TerminalEvent, ClientError> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Binary(data))) => return Ok(TerminalEvent::Output(data)),
                Some(Ok(Message::Close(frame))) => return Ok(closed(frame)),
                // What the server says of a frame it did not understand.
                Some(Ok(Message::Text(_))) => {}
                // Answered below us.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(broken(Error::ConnectionClosed)),
            }
        }
    }
}

fn closed(frame: Option<CloseFrame>) -> TerminalEvent {
    let Some(frame) = frame else {
        return TerminalEvent::Closed("the server gave no reason".to_owned());
    };
    let code = frame.reason.strip_prefix(EXITED);
    match code.and_then(|code| code.parse().ok()) {
        Some(code) if frame.code == CloseCode::Normal => TerminalEvent::Exited(code),
        Some(_) | None => TerminalEvent::Closed(frame.reason.to_string()),
    }
}

fn broken(error: Error) -> ClientError {
    ClientError::Socket(Box::new(error))
}
