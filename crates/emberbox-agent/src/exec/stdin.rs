//! A command's standard input: bytes on their way from the host.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

/// Bytes taken from the host ahead of the command. Past it no frame is read,
/// and with that a hang-up goes unseen until the command reads or ends.
const AHEAD: usize = 1024 * 1024;

/// Where `Data` frames of an exec call go.
pub(crate) struct Stdin {
    takes_input: bool,
    pipe: Option<pipe::Sender>,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    at_end: bool,
}

impl Stdin {
    /// Without a pipe no input is expected.
    pub(crate) fn new(pipe: Option<pipe::Sender>) -> Self {
        Self {
            takes_input: pipe.is_some(),
            pipe,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            at_end: false,
        }
    }

    /// Whether the host may send input now.
    pub(crate) fn takes_input(&self) -> bool {
        self.takes_input && !self.at_end
    }

    pub(crate) fn has_bytes(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.waiting_bytes < AHEAD
    }

    /// Takes bytes; dropped if the command has closed its end.
    pub(crate) fn push(&mut self, data: Bytes) {
        if self.pipe.is_some() && !data.is_empty() {
            self.waiting_bytes += data.len();
            self.waiting.push_back(data);
        }
    }

    /// No more bytes will come.
    pub(crate) fn end(&mut self) {
        self.at_end = true;
        self.close_if_done();
    }

    /// Writes some of what waits. Cancel-safe.
    pub(crate) async fn write(&mut self) {
        let (Some(pipe), Some(data)) = (&mut self.pipe, self.waiting.front_mut()) else {
            return;
        };
        match pipe.write(data).await {
            Ok(written) => {
                self.waiting_bytes -= written;
                data.advance(written);
                if data.is_empty() {
                    self.waiting.pop_front();
                }
                self.close_if_done();
            }
            Err(_closed) => {
                self.pipe = None;
                self.waiting.clear();
                self.waiting_bytes = 0;
            }
        }
    }

    fn close_if_done(&mut self) {
        if self.at_end && self.waiting.is_empty() {
            self.pipe = None;
        }
    }
}
