//! A running command, seen from the host.

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Call, ClientError, ExitStatus, FromAgent, OutputStream, ToAgent};

/// A command that runs in a guest. Dropping it kills the command.
pub struct ExecCall {
    call: Call,
    pid: u32,
    deadline: Instant,
}

/// What a running command does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// It wrote this.
    Output(OutputStream, Bytes),
    /// It ended; nothing follows.
    Exited(ExitStatus),
}

/// A command's whole output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error.
    pub stderr: Bytes,
    /// Whether more was written than the limit kept.
    pub truncated: bool,
    /// How it ended.
    pub status: ExitStatus,
}

impl ExecCall {
    pub(super) fn new(call: Call, pid: u32, deadline: Instant) -> Self {
        Self {
            call,
            pid,
            deadline,
        }
    }

    /// The command's process id in the guest.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends bytes to the command's stdin (only when its spec said so).
    pub async fn write_stdin(&mut self, data: Bytes) -> Result<(), ClientError> {
        self.call.send(&ToAgent::Data(data)).await
    }

    /// Closes the command's stdin.
    pub async fn close_stdin(&mut self) -> Result<(), ClientError> {
        self.call.send(&ToAgent::End).await
    }

    /// The next event. Not cancel-safe.
    pub async fn next(&mut self) -> Result<ExecEvent, ClientError> {
        match self.call.answer_by(self.deadline).await? {
            FromAgent::Output { stream, data } => Ok(ExecEvent::Output(stream, data)),
            FromAgent::Exited(status) => {
                self.call.finish();
                Ok(ExecEvent::Exited(status))
            }
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Runs to the end and keeps the first `limit` bytes of each stream.
    pub async fn collect(mut self, limit: usize) -> Result<ExecOutput, ClientError> {
        let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
        let mut truncated = false;
        loop {
            let (kept, data) = match self.next().await? {
                ExecEvent::Output(OutputStream::Stdout, data) => (&mut stdout, data),
                ExecEvent::Output(OutputStream::Stderr, data) => (&mut stderr, data),
                ExecEvent::Exited(status) => {
                    let (stdout, stderr) = (stdout.freeze(), stderr.freeze());
                    return Ok(ExecOutput {
                        stdout,
                        stderr,
                        truncated,
                        status,
                    });
                }
            };
            let room = limit - kept.len();
            truncated |= data.len() > room;
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
}
