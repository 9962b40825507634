//! Running a command.
//!
//! ```text
//! socket ─▶ watch ─▶ stdin        watch: end of the process, deadline, hang-up
//! stdout, stderr ─▶ pump ─▶ socket    until the process has ended and
//!                                     what it wrote is sent
//! ```
//!
//! A call ends with its own process, not with its pipes. What a background
//! child writes later is read and thrown away for as long as it lives, so that
//! it neither blocks on a full pipe nor dies of a broken one.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use emberbox_guest::{
    ExecSpec, ExitStatus, FromAgent, GuestError, GuestErrorCode, OutputStream, ToAgent,
};
use nix::fcntl::OFlag;
use nix::unistd;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::connection::{Connection, Hangup, Incoming, Outgoing};

mod child;
mod environment;
mod output;
mod plain;
mod spawn;
mod stdin;

pub(crate) use child::Child;
pub(crate) use environment::{Environment, EnvironmentError};
pub(crate) use output::{Output, linger};
pub(crate) use spawn::{Process, Program, Stdio};
pub(crate) use stdin::Stdin;

/// Deadlines beyond this are taken as this: a year is "never", and the sum
/// with the clock cannot overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs one command to its end.
pub(crate) async fn run(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    spec: ExecSpec,
) -> Result<(), Hangup> {
    let deadline = Instant::now() + Duration::from_millis(spec.timeout_ms).min(LONGEST);
    let (mut child, stdin, mut stdout, mut stderr) = match start(agent, &spec) {
        Ok(started) => started,
        Err(error) => return connection.outgoing.send(&FromAgent::Failed(error)).await,
    };
    let started = FromAgent::Started { pid: child.pid() };
    let Connection {
        incoming, outgoing, ..
    } = connection;
    let (tell_ended, ended) = oneshot::channel();
    let watching = async {
        let status = watch(&mut child, stdin, incoming, deadline).await?;
        // Nobody listens any more when the pipes were closed before the end.
        let _ = tell_ended.send(());
        Ok(status)
    };
    let pumping = async {
        outgoing.send(&started).await?;
        pump(outgoing, &mut stdout, &mut stderr, ended).await
    };
    match tokio::try_join!(watching, pumping) {
        Ok((status, ())) => {
            connection.outgoing.send(&FromAgent::Exited(status)).await?;
            linger(agent, [stdout, stderr]);
            Ok(())
        }
        Err(hangup) => {
            child.kill_and_wait().await;
            Err(hangup)
        }
    }
}

/// A process that runs, and our ends of its pipes.
pub(crate) type Started = (Child, Stdin, Output, Output);

/// Starts a command.
pub(crate) fn start(agent: &Agent, spec: &ExecSpec) -> Result<Started, GuestError> {
    let refuse = |message: &str| GuestError::new(GuestErrorCode::Spawn, message);
    let command =
        CString::new(spec.command.as_str()).map_err(|_nul| refuse("the command has a NUL byte"))?;
    let cwd = directory(&spec.cwd)?;
    let environment = agent
        .environment()
        .with(&spec.env)
        .map_err(|error| GuestError::new(GuestErrorCode::Spawn, error))?;
    launch(agent, spec, &command, &cwd, &environment).map_err(|error| explain(&spec.cwd, &error))
}

fn launch(
    agent: &Agent,
    spec: &ExecSpec,
    command: &CString,
    cwd: &CString,
    environment: &[CString],
) -> io::Result<Started> {
    let (stdout, child_stdout) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, child_stderr) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (child_stdin, stdin) = if spec.stdin {
        let (theirs, ours) = unistd::pipe2(OFlag::O_CLOEXEC)?;
        (Some(theirs), Some(pipe::Sender::from_owned_fd(ours)?))
    } else {
        (None, None)
    };
    let stdout = Output::new(OutputStream::Stdout, pipe::Receiver::from_owned_fd(stdout)?);
    let stderr = Output::new(OutputStream::Stderr, pipe::Receiver::from_owned_fd(stderr)?);
    let child = spawn(
        agent,
        &Process {
            program: Program::Command(command),
            cwd,
            environment,
            stdio: Stdio::Pipes {
                stdin: child_stdin.as_ref().map(AsFd::as_fd),
                stdout: child_stdout.as_fd(),
                stderr: child_stderr.as_fd(),
            },
        },
    )?;
    Ok((child, Stdin::new(stdin), stdout, stderr))
}

/// Starts a process and takes charge of it.
pub(crate) fn spawn(agent: &Agent, process: &Process<'_>) -> io::Result<Child> {
    let pid = agent
        .system
        .with_command_oom_score(|| spawn::start(process))?;
    Child::adopt(pid)
}

/// A working directory as the kernel takes it.
pub(crate) fn directory(cwd: &str) -> Result<CString, GuestError> {
    match CString::new(cwd) {
        Ok(path) if cwd.starts_with('/') => Ok(path),
        Ok(_) | Err(_) => Err(GuestError::new(
            GuestErrorCode::InvalidPath,
            "the working directory must be an absolute path without NUL bytes",
        )),
    }
}

/// posix_spawn reports one number for everything it did.
pub(crate) fn explain(cwd: &str, error: &io::Error) -> GuestError {
    if !std::path::Path::new(cwd).is_dir() {
        return GuestError::new(
            GuestErrorCode::NoSuchCwd,
            format_args!("the working directory {cwd} does not exist"),
        );
    }
    let message = match error.raw_os_error() {
        Some(nix::libc::E2BIG) => "the command and its environment are too long".to_owned(),
        Some(nix::libc::ENOENT) => "the guest has neither /bin/bash nor /bin/sh".to_owned(),
        _ => format!("cannot start the command: {error}"),
    };
    GuestError::new(GuestErrorCode::Spawn, message)
}

/// Feeds the process and waits for its end, by itself or by the deadline.
async fn watch(
    child: &mut Child,
    mut stdin: Stdin,
    incoming: &mut Incoming,
    deadline: Instant,
) -> Result<ExitStatus, Hangup> {
    let mut timed_out = false;
    loop {
        tokio::select! {
            ended = child.wait() => {
                return Ok(if timed_out { ExitStatus::TimedOut } else { ended });
            }
            () = tokio::time::sleep_until(deadline), if !timed_out => {
                timed_out = true;
                child.kill_group();
            }
            () = stdin.write(), if stdin.has_bytes() => {}
            frame = incoming.next(), if stdin.has_room() => match frame? {
                ToAgent::Data(data) if stdin.takes_input() => stdin.push(data),
                ToAgent::End if stdin.takes_input() => stdin.end(),
                ToAgent::Data(_)
                | ToAgent::End
                | ToAgent::Resize(_)
                | ToAgent::Call { .. } => {
                    return Err(Hangup::OutOfTurn);
                }
            },
        }
    }
}

/// Sends what comes out until `ended`, and then what is left in the pipes.
async fn pump(
    outgoing: &mut Outgoing,
    stdout: &mut Output,
    stderr: &mut Output,
    mut ended: oneshot::Receiver<()>,
) -> Result<(), Hangup> {
    while stdout.is_open() || stderr.is_open() {
        let output = tokio::select! {
            _ = &mut ended => break,
            _ = stdout.readable() => &mut *stdout,
            _ = stderr.readable() => &mut *stderr,
        };
        if let Some(data) = output.take() {
            let stream = output.stream();
            outgoing.send(&FromAgent::Output { stream, data }).await?;
        }
    }
    for output in [stdout, stderr] {
        let stream = output.stream();
        for data in output.rest() {
            outgoing.send(&FromAgent::Output { stream, data }).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
