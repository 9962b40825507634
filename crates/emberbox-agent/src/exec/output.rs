//! What a command writes.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use emberbox_guest::OutputStream;
use emberbox_guest::message::CHUNK;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd;
use tokio::net::unix::pipe;

use crate::agent::Agent;

/// Buffer that takes what nobody wants: a page, as there may be many.
const DISCARD: usize = 4096;

/// One of the two outputs; no pipe once it is at its end.
pub(crate) struct Output {
    stream: OutputStream,
    pipe: Option<pipe::Receiver>,
}

impl Output {
    pub(super) fn new(stream: OutputStream, pipe: pipe::Receiver) -> Self {
        Self {
            stream,
            pipe: Some(pipe),
        }
    }

    pub(crate) fn stream(&self) -> OutputStream {
        self.stream
    }

    /// Whether more may come.
    pub(crate) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Waits until something can be read. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.pipe {
            Some(pipe) => pipe.readable().await,
            None => std::future::pending().await,
        }
    }

    /// What can be read now, at most a chunk.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        match self.pipe.as_ref()?.try_read_buf(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(1..) => return Some(buffer.freeze()),
            Ok(0) | Err(_) => {}
        }
        self.pipe = None;
        None
    }

    /// All that was in the pipe at the time of the call, and perhaps a little
    /// more: a pipe never holds more than its capacity, so reading that much is
    /// enough, and a background child that goes on writing cannot prolong it.
    pub(crate) fn rest(&mut self) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let Some(pipe) = &self.pipe else {
            return chunks;
        };
        let capacity = fcntl(pipe.as_fd(), FcntlArg::F_GETPIPE_SZ).unwrap_or(CHUNK as i32);
        let mut left = usize::try_from(capacity).unwrap_or(CHUNK);
        while left > 0 {
            let mut buffer = vec![0; left.min(CHUNK)];
            // Past the reactor, whose word on readiness may be older than the
            // end of the process.
            match unistd::read(pipe, &mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    break;
                }
                Ok(read) => {
                    buffer.truncate(read);
                    left -= read;
                    chunks.push(buffer.into());
                }
                Err(nix::Error::EINTR) => {}
                Err(_) => break,
            }
        }
        chunks
    }
}

/// Reads and drops what background children of an ended command write, until
/// they close the pipes.
pub(crate) fn linger(agent: &Agent, outputs: [Output; 2]) {
    for pipe in outputs.into_iter().filter_map(|output| output.pipe) {
        discard(agent, pipe);
    }
}

fn discard(agent: &Agent, pipe: pipe::Receiver) {
    let Ok(place) = Arc::clone(&agent.lingering).try_acquire_owned() else {
        return;
    };
    tokio::spawn(async move {
        let mut waste = [0; DISCARD];
        while pipe.readable().await.is_ok() {
            match pipe.try_read(&mut waste) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        drop(place);
    });
}
