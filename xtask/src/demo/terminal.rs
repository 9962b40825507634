//! A terminal session as a browser holds one: a WebSocket with a short-lived
//! token, raw bytes both ways.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tungstenite::Message;

use crate::patience::patience;

/// Longest until what was typed is answered.
const ANSWER: Duration = Duration::from_secs(30);

/// Types `input` into the session and returns everything it said up to
/// `expected`.
pub(crate) fn converse(session: &Value, input: &str, expected: &str) -> Result<String> {
    let text = |name: &str| {
        let value = session[name].as_str();
        value.with_context(|| format!("no {name} in {session}"))
    };
    let address = format!(
        "{}?session_id={}&cols=100&rows=30&token={}",
        text("ws_url")?,
        text("session_id")?,
        text("stream_auth")?
    );
    let (mut socket, _response) =
        tungstenite::connect(address).context("cannot open the terminal's socket")?;
    socket.send(Message::binary(input.as_bytes().to_vec()))?;
    let deadline = Instant::now() + patience(ANSWER);
    let mut said = String::new();
    while !said.contains(expected) {
        if Instant::now() > deadline {
            bail!("the terminal said only {said:?}");
        }
        match socket.read().context("the terminal's socket broke off")? {
            Message::Binary(bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(frame) => bail!("the terminal ended: {frame:?} after {said:?}"),
        }
    }
    socket.close(None)?;
    Ok(said)
}
