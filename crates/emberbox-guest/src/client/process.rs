//! Background processes, seen from the host.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{ANSWER, Call, ClientError, ExitStatus, FromAgent, GuestClient, OutputStream, Request};
use crate::message::CHUNK;
use crate::process::{ENDED_PROCESSES, LIVE_PROCESSES, LOG_BYTES, TEXT_SHOWN};
use crate::{ProcessInfo, ProcessRequest, ProcessSpec};

/// How long a follower waits for one event. A process may be silent for as
/// long as it lives; the end of the VM is noticed apart from this.
const SILENCE: Duration = Duration::from_secs(365 * 24 * 3600);

impl GuestClient {
    /// Starts a background process. It lives on its own from here.
    pub async fn start_process(&self, spec: ProcessSpec) -> Result<ProcessInfo, ClientError> {
        self.process_info(ProcessRequest::Start(spec)).await
    }

    /// Every background process that is known, in the order of their start.
    pub async fn processes(&self) -> Result<Vec<ProcessInfo>, ClientError> {
        let mut call = self.begin(Request::Process(ProcessRequest::List)).await?;
        let mut all = Vec::new();
        loop {
            match call.answer(ANSWER).await? {
                FromAgent::Process(info) if all.len() < LIVE_PROCESSES + ENDED_PROCESSES => {
                    all.push(sane(info)?);
                }
                FromAgent::End { .. } => {
                    call.finish();
                    return Ok(all);
                }
                _ => return Err(ClientError::Unexpected),
            }
        }
    }

    /// What is known of one background process.
    pub async fn process(&self, pid: u32) -> Result<ProcessInfo, ClientError> {
        self.process_info(ProcessRequest::Get { pid }).await
    }

    /// Sends a signal (its number on Linux) to the group of a process.
    pub async fn signal_process(&self, pid: u32, signal: i32) -> Result<(), ClientError> {
        let request = ProcessRequest::Signal { pid, signal };
        self.plain(Request::Process(request), ANSWER).await
    }

    /// Ends a process and its group: SIGTERM, then SIGKILL after `grace`. Done
    /// when it has ended, also when it had before.
    pub async fn stop_process(&self, pid: u32, grace: Duration) -> Result<(), ClientError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = ProcessRequest::Stop { pid, grace_ms };
        self.plain(Request::Process(request), ANSWER.saturating_add(grace))
            .await
    }

    /// Writes to the standard input of a process, and closes it if asked to.
    pub async fn write_process(
        &self,
        pid: u32,
        data: Bytes,
        close: bool,
    ) -> Result<(), ClientError> {
        let request = ProcessRequest::Input { pid, data, close };
        self.plain(Request::Process(request), ANSWER).await
    }

    /// What a process wrote from `from_offset` on, and what it will write.
    pub async fn follow_process(
        &self,
        pid: u32,
        from_offset: u64,
    ) -> Result<ProcessFollow, ClientError> {
        self.read_log(pid, from_offset, Live::Yes).await
    }

    /// What is kept of what a process wrote so far: the last
    /// [`LOG_BYTES`] of it and little more.
    pub async fn process_log(&self, pid: u32) -> Result<ProcessFollow, ClientError> {
        self.read_log(pid, 0, Live::No).await
    }

    async fn read_log(
        &self,
        pid: u32,
        from_offset: u64,
        live: Live,
    ) -> Result<ProcessFollow, ClientError> {
        let request = ProcessRequest::Follow {
            pid,
            from_offset,
            live: live == Live::Yes,
        };
        let mut call = self.begin(Request::Process(request)).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Done => Ok(ProcessFollow {
                call,
                live,
                at: from_offset,
                replayed: 0,
            }),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn process_info(&self, request: ProcessRequest) -> Result<ProcessInfo, ClientError> {
        let mut call = self.begin(Request::Process(request)).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Process(info) => {
                call.finish();
                sane(info)
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Live {
    Yes,
    No,
}

/// A guest that repeats more than it was told wants our memory.
fn sane(info: ProcessInfo) -> Result<ProcessInfo, ClientError> {
    let name = info.name.as_ref().map_or(0, String::len);
    if info.command.len().max(name) > TEXT_SHOWN {
        return Err(ClientError::Unexpected);
    }
    Ok(info)
}

/// The output of a background process, as it comes. Dropping it leaves the
/// process alone.
pub struct ProcessFollow {
    call: Call,
    live: Live,
    /// No byte before this one is still to come.
    at: u64,
    replayed: usize,
}

/// What a background process does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It wrote this.
    Output {
        /// Where it begins, counted over both streams from the start. More
        /// than where the last one ended: what is between is no longer kept.
        offset: u64,
        /// Which of the two.
        stream: OutputStream,
        /// The bytes, never none.
        data: Bytes,
    },
    /// It ended; nothing follows.
    Exited(ExitStatus),
    /// The end of what was written so far; nothing follows.
    End,
}

impl ProcessFollow {
    /// The next event. Not cancel-safe.
    pub async fn next(&mut self) -> Result<ProcessEvent, ClientError> {
        let within = match self.live {
            Live::Yes => SILENCE,
            Live::No => ANSWER,
        };
        match self.call.answer_by(Instant::now() + within).await? {
            FromAgent::Log {
                offset,
                stream,
                data,
            } => {
                let end = offset.checked_add(data.len() as u64);
                let end = end.ok_or(ClientError::Unexpected)?;
                if offset < self.at || data.is_empty() || data.len() > CHUNK {
                    return Err(ClientError::Unexpected);
                }
                self.at = end;
                self.replayed = self.replayed.saturating_add(data.len());
                // The last piece of a process that writes on may reach past
                // what there was at first.
                if self.live == Live::No && self.replayed > LOG_BYTES + CHUNK {
                    return Err(ClientError::Unexpected);
                }
                Ok(ProcessEvent::Output {
                    offset,
                    stream,
                    data,
                })
            }
            FromAgent::Exited(status) => {
                self.call.finish();
                Ok(ProcessEvent::Exited(status))
            }
            FromAgent::End { .. } if self.live == Live::No => {
                self.call.finish();
                Ok(ProcessEvent::End)
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}
