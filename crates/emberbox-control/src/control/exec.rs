//! Running a command in a sandbox.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use emberbox_api::ErrorCode;
use emberbox_guest::client::{ExecCall, ExecEvent};
use emberbox_guest::message::CHUNK;
use emberbox_guest::{ExecSpec, ExitStatus, OutputStream};
use emberbox_store::SandboxRecord;

use super::feed::Source;
use super::{Control, Use};
use crate::Failure;

/// Most bytes kept of each output stream. Together with JSON's escapes it
/// bounds what one request may hold; a command that says more belongs into
/// the streaming route or a file.
const OUTPUT_MAX: usize = 8 * 1024 * 1024;

/// What a shell adds to the number of a signal that ended a command.
const SIGNAL_BASE: i32 = 128;

/// What `timeout(1)` exits with when it had to end a command.
pub(crate) const TIMED_OUT: i32 = 124;

/// The end of a command as a shell would report it.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code,
        // A hostile guest names any number.
        ExitStatus::Signal(signal) => SIGNAL_BASE.saturating_add(signal),
        ExitStatus::TimedOut => TIMED_OUT,
    }
}

/// What a command did.
pub(crate) struct ExecOutcome {
    /// Its standard output.
    pub(crate) stdout: Bytes,
    /// Its standard error.
    pub(crate) stderr: Bytes,
    /// Whether more was written than was kept.
    pub(crate) truncated: bool,
    /// As a shell would report it.
    pub(crate) exit_code: i32,
    /// How long it ran.
    pub(crate) duration: Duration,
    /// Why it was ended, if it ran over its time.
    pub(crate) timed_out: Option<Failure>,
}

/// How a command ended by itself or had to be ended.
pub(crate) enum Ending {
    /// With this code, as a shell would report it.
    Code(i32),
    /// Over its time.
    TimedOut(Failure),
}

/// A command that runs. Dropping it kills the command.
pub(crate) struct RunningExec {
    call: ExecCall,
    timeout_sec: u64,
    output: Source,
    _in_use: Use,
}

impl Control {
    /// Runs a command to its end, which comes in time. Dropping the future
    /// kills it.
    pub(crate) async fn exec(
        &self,
        record: &SandboxRecord,
        spec: ExecSpec,
    ) -> Result<ExecOutcome, Failure> {
        let mut outcome = self.exec_to_end(record, spec, Bytes::new()).await?;
        match outcome.timed_out.take() {
            None => Ok(outcome),
            Some(failure) => Err(failure),
        }
    }

    /// Runs a command to its end, or to that of its time. It is given `input`
    /// if its spec says that it takes some. Dropping the future kills it.
    pub(crate) async fn exec_to_end(
        &self,
        record: &SandboxRecord,
        spec: ExecSpec,
        input: Bytes,
    ) -> Result<ExecOutcome, Failure> {
        let started = Instant::now();
        let takes_input = spec.stdin;
        let mut running = self.begin_exec(record, spec).await?;
        if takes_input {
            running.give(input).await?;
        }
        let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
        let mut truncated = false;
        let status = loop {
            let (kept, data) = match running.next().await? {
                ExecEvent::Output(OutputStream::Stdout, data) => (&mut stdout, data),
                ExecEvent::Output(OutputStream::Stderr, data) => (&mut stderr, data),
                ExecEvent::Exited(status) => break status,
            };
            let room = OUTPUT_MAX - kept.len();
            truncated |= data.len() > room;
            kept.extend_from_slice(&data[..data.len().min(room)]);
        };
        let timed_out = match running.ending(status) {
            Ending::Code(_) => None,
            Ending::TimedOut(failure) => Some(failure),
        };
        Ok(ExecOutcome {
            stdout: stdout.freeze(),
            stderr: stderr.freeze(),
            truncated,
            exit_code: exit_code(status),
            duration: started.elapsed(),
            timed_out,
        })
    }

    /// Starts a command.
    pub(crate) async fn begin_exec(
        &self,
        record: &SandboxRecord,
        spec: ExecSpec,
    ) -> Result<RunningExec, Failure> {
        let guest = self.guest(record)?;
        let timeout_sec = spec.timeout_ms / 1000;
        let call = guest.exec(spec).await?;
        Ok(RunningExec {
            call,
            timeout_sec,
            output: self.feed(record).source(),
            _in_use: self.using(&record.id),
        })
    }
}

impl RunningExec {
    /// All it will read from its standard input. The agent takes a megabyte
    /// ahead of the command, so that less never waits for it.
    async fn give(&mut self, mut input: Bytes) -> Result<(), Failure> {
        while !input.is_empty() {
            let piece = input.split_to(input.len().min(CHUNK));
            self.call.write_stdin(piece).await?;
        }
        Ok(self.call.close_stdin().await?)
    }

    /// What it does next. Not cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<ExecEvent, Failure> {
        let event = self.call.next().await?;
        match &event {
            ExecEvent::Output(stream, data) => self.output.write(*stream, data),
            ExecEvent::Exited(_) => self.output.finish(),
        }
        Ok(event)
    }

    /// What its end means.
    pub(crate) fn ending(&self, status: ExitStatus) -> Ending {
        match status {
            ExitStatus::Code(_) | ExitStatus::Signal(_) => Ending::Code(exit_code(status)),
            ExitStatus::TimedOut => Ending::TimedOut(Failure::new(
                ErrorCode::ExecTimeout,
                format!(
                    "command timed out after {} s and was killed",
                    self.timeout_sec
                ),
            )),
        }
    }
}
