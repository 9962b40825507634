//! Somebody who looks at a terminal through its WebSocket.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::SOON;
use super::api::Api;
use crate::answers::Answer;

/// An open socket, and what came out of it.
pub(crate) struct Eyes {
    socket: WebSocket<TcpStream>,
    /// Everything the terminal has said and nobody has passed over.
    pub(crate) seen: String,
}

impl Eyes {
    /// Looks at a terminal that was opened, as the reference says to.
    #[track_caller]
    pub(crate) fn at(terminal: &Value, more: &str) -> Self {
        Self::on(&address(terminal, more), None).unwrap()
    }

    /// Opens a socket with a key.
    pub(crate) fn with_key(api: &Api, path: &str) -> Result<Self, Answer> {
        let base = api.url.replace("http://", "ws://");
        Self::on(&format!("{base}/api/v1{path}"), Some(&api.key))
    }

    /// Opens a socket, or has the answer that refuses it.
    pub(crate) fn on(url: &str, key: Option<&str>) -> Result<Self, Answer> {
        let mut request = url.into_client_request().unwrap();
        if let Some(key) = key {
            let bearer = format!("Bearer {key}").parse().unwrap();
            request.headers_mut().insert("authorization", bearer);
        }
        let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, _response)) => Ok(Self {
                socket,
                seen: String::new(),
            }),
            Err(HandshakeError::Failure(Error::Http(response))) => {
                let header = |name: &str| {
                    let value = response.headers().get(name)?;
                    Some(value.to_str().unwrap().to_owned())
                };
                Err(Answer {
                    status: response.status().as_u16(),
                    request_id: header("x-request-id").expect("x-request-id"),
                    content_type: header("content-type"),
                    server_timing: header("server-timing"),
                    bytes: response.body().clone().unwrap_or_default(),
                })
            }
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// Types.
    #[track_caller]
    pub(crate) fn types(&mut self, text: &str) {
        let message = Message::binary(text.as_bytes().to_vec());
        self.socket.send(message).unwrap();
    }

    /// Sends a text frame, which is no input.
    #[track_caller]
    pub(crate) fn tells(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Waits until the terminal has said this, and passes over it.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{text:?} is not in {:?}", self.seen);
            if let Some(close) = self.look() {
                panic!("{close:?} before {text:?} in {:?}", self.seen);
            }
        }
    }

    /// Waits until the server closes; code and reason.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> (u16, String) {
        loop {
            if let Some(close) = self.look() {
                let close = close.expect("the server says why");
                return (close.code.into(), close.reason.to_string());
            }
        }
    }

    /// Says goodbye, which is answered.
    #[track_caller]
    pub(crate) fn says_goodbye(mut self) {
        self.socket.close(None).unwrap();
        while self.look().is_none() {}
    }

    /// Leaves without a word.
    pub(crate) fn leave(self) {
        drop(self);
    }

    /// One message; the close, if it is one.
    #[track_caller]
    fn look(&mut self) -> Option<Option<CloseFrame>> {
        let message = self.socket.read();
        match message.unwrap_or_else(|error| panic!("{error} after {:?}", self.seen)) {
            Message::Binary(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
            Message::Close(frame) => return Some(frame),
            Message::Ping(_) | Message::Pong(_) => {}
            other @ (Message::Text(_) | Message::Frame(_)) => panic!("{other:?}"),
        }
        None
    }
}

/// The address of a terminal's socket with its token.
pub(crate) fn address(terminal: &Value, more: &str) -> String {
    let text = |name: &str| terminal[name].as_str().unwrap();
    let (url, id, token) = (text("ws_url"), text("session_id"), text("stream_auth"));
    format!("{url}?session_id={id}&token={token}{more}")
}
