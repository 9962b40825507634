//! A WebSocket that looks at a terminal.
//!
//! ```text
//! client ─▶ hear ─▶ terminal's input        binary: bytes · text: JSON
//!             └ errors ─▶ queue ─▶ speak ─▶ client
//! terminal's output ─▶ show ─┘   pings ─┘
//! ```
//!
//! Whoever ends first says why, and the socket is closed with that.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use emberbox_guest::TerminalSize;
use emberbox_guest::client::{
    ClientError, GuestClient, TerminalEvent, TerminalInput, TerminalOutput,
};
use emberbox_store::Caller;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

use crate::Failure;
use crate::control::{Control, Use, exit_code};

/// Largest message: a long paste. Larger things are files.
pub(super) const MESSAGE_MAX: usize = 256 * 1024;

/// Time between pings: proxies cut connections that are silent for a minute.
const PING: Duration = Duration::from_secs(30);

/// How long a client may be silent, its answers to pings included.
const SILENCE: Duration = Duration::from_secs(75);

/// How long a client may leave a message unread before it is taken for gone.
const UNREAD: Duration = Duration::from_secs(60);

/// Messages on their way to the client; the terminal waits beyond it.
const QUEUE: usize = 8;

/// How long a client may take to answer a close.
const FAREWELL: Duration = Duration::from_secs(5);

/// The close code for a terminal that somebody else looks at now (4000 and
/// above are the application's, RFC 6455, 7.4.2).
const TAKEN_OVER: u16 = 4001;

/// A terminal and what its socket needs.
pub(super) struct Socket {
    /// Who looks.
    pub(super) caller: Caller,
    pub(super) control: Arc<Control>,
    pub(super) guest: GuestClient,
    pub(super) input: TerminalInput,
    pub(super) output: TerminalOutput,
    /// The terminal that ends with this socket, if it does.
    pub(super) own: Option<u64>,
    /// A terminal somebody looks at is in use.
    pub(super) in_use: Use,
}

/// Why a socket ends.
enum Ending {
    /// With this code and reason.
    Close(u16, String),
    /// The client's message was too large.
    TooLarge,
    /// The client closed it.
    Closed,
    /// The client is gone.
    Gone,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Command {
    Resize { cols: u16, rows: u16 },
}

impl Socket {
    /// Serves a client until it, its key, the terminal or the server ends.
    pub(super) async fn run(self, stream: WebSocket) {
        let Self {
            caller,
            control,
            guest,
            mut input,
            mut output,
            own,
            in_use: _in_use,
        } = self;
        let (mut sink, mut stream) = stream.split();
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let over = Arc::clone(&control).until_over(caller);
        let ending = tokio::select! {
            ending = hear(&mut stream, &mut input, &queue) => ending,
            ending = show(&mut output, &queue) => ending,
            ending = speak(&mut sink, &mut queued) => ending,
            ending = ping(&queue) => ending,
            () = over => {
                Ending::Close(close_code::POLICY, "the key stopped working".to_owned())
            }
            () = control.closing().cancelled() => {
                Ending::Close(close_code::AWAY, "the server is shutting down".to_owned())
            }
        };
        let farewell = end(ending, &mut sink, &mut stream, &mut queued);
        // Whoever does not take it is gone.
        let _ = timeout(FAREWELL, farewell).await;
        if let Some(id) = own {
            // One that has ended is closed already.
            let _ = guest.close_terminal(id).await;
        }
    }
}

/// Takes what the client sends.
async fn hear(
    stream: &mut SplitStream<WebSocket>,
    input: &mut TerminalInput,
    queue: &mpsc::Sender<Message>,
) -> Ending {
    loop {
        let Ok(Some(message)) = timeout(SILENCE, stream.next()).await else {
            return Ending::Gone;
        };
        let taken = match message {
            Ok(Message::Binary(data)) => input.write(data).await,
            Ok(Message::Text(text)) => match parse(&text) {
                Ok(size) => input.resize(size).await,
                Err(message) => {
                    let error = json!({ "type": "error", "message": message });
                    if queue.send(Message::text(error.to_string())).await.is_err() {
                        return Ending::Gone;
                    }
                    Ok(())
                }
            },
            // Pings are answered below us.
            Ok(Message::Ping(_) | Message::Pong(_)) => Ok(()),
            Ok(Message::Close(_)) => return Ending::Closed,
            Err(error) => return broken(error),
        };
        if let Err(error) = taken {
            // The output has the reason where there is one; it may be on its
            // way, so it goes first.
            tracing::debug!(%error, "terminal input broke off");
            return std::future::pending().await;
        }
    }
}

fn parse(text: &str) -> Result<TerminalSize, String> {
    let Command::Resize { cols, rows } = serde_json::from_str(text)
        .map_err(|error| format!("a text frame must be {{\"type\":\"resize\",…}}: {error}"))?;
    let size = TerminalSize { cols, rows };
    if size.is_sane() {
        Ok(size)
    } else {
        let max = emberbox_guest::terminal::SIDE_MAX;
        Err(format!("cols and rows must be between 1 and {max}"))
    }
}

fn broken(error: axum::Error) -> Ending {
    use std::error::Error;
    use tokio_tungstenite::tungstenite::Error as WsError;
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(WsError::Capacity(_)) => Ending::TooLarge,
        Some(_) | None => Ending::Gone,
    }
}

/// Queues what the terminal shows.
async fn show(output: &mut TerminalOutput, queue: &mpsc::Sender<Message>) -> Ending {
    loop {
        let (code, reason) = match output.next().await {
            Ok(TerminalEvent::Output(data)) => {
                if queue.send(Message::Binary(data)).await.is_err() {
                    return Ending::Gone;
                }
                continue;
            }
            Ok(TerminalEvent::Exited(status)) => (
                close_code::NORMAL,
                format!("exit code {}", exit_code(status)),
            ),
            Ok(TerminalEvent::TakenOver) => (
                TAKEN_OVER,
                "another client looks at the terminal".to_owned(),
            ),
            Err(error @ ClientError::Ended) => (close_code::AWAY, Failure::from(error).message),
            Err(error) => (close_code::ERROR, Failure::from(error).message),
        };
        return Ending::Close(code, reason);
    }
}

/// Sends what is queued.
async fn speak(
    sink: &mut SplitSink<WebSocket, Message>,
    queued: &mut mpsc::Receiver<Message>,
) -> Ending {
    while let Some(message) = queued.recv().await {
        match timeout(UNREAD, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ending::Gone,
        }
    }
    Ending::Gone
}

async fn ping(queue: &mpsc::Sender<Message>) -> Ending {
    let mut ticks = interval(PING);
    loop {
        ticks.tick().await;
        if queue.send(Message::Ping(Bytes::new())).await.is_err() {
            return Ending::Gone;
        }
    }
}

/// Sends what is left, says why it ends, and waits for the client to close.
async fn end(
    ending: Ending,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    queued: &mut mpsc::Receiver<Message>,
) {
    let (code, reason, in_step) = match ending {
        Ending::Gone => return,
        Ending::Closed => {
            // The answer is prepared below us (RFC 6455, 5.5.1); without it a
            // browser takes the connection for broken.
            let _ = sink.flush().await;
            return;
        }
        Ending::Close(code, reason) => (code, reason, true),
        Ending::TooLarge => {
            let reason = format!("a message may have at most {MESSAGE_MAX} bytes");
            (close_code::SIZE, reason, false)
        }
    };
    while let Ok(message) = queued.try_recv() {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let close = CloseFrame {
        code,
        reason: reason.into(),
    };
    if sink.send(Message::Close(Some(close))).await.is_err() {
        return;
    }
    if in_step {
        while let Some(Ok(_late)) = stream.next().await {}
    } else {
        // The rest of the message is still on its way and cannot be skipped:
        // closing now would reset the connection before the close is read.
        sleep(FAREWELL).await;
    }
}
