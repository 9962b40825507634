//! Running a command: its output passes through, its exit code becomes ours.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use emberbox_api::client::{Client, CommandEvent, EventStream};
use emberbox_api::{ExecRequest, OutputLine, OutputName};

use super::{stdin, terminal};
use crate::interrupt::or_interrupted;
use crate::{cli, shell};

/// Runs it. Ctrl-C ends it in the sandbox as well.
pub(crate) async fn run(client: &Client, arguments: cli::Exec) -> Result<ExitCode> {
    if arguments.tty {
        return terminal::command(client, arguments).await;
    }
    if arguments.interactive {
        return stdin::run(client, arguments).await;
    }
    let request = ExecRequest {
        command: shell::line(&arguments.command),
        working_dir: arguments.cwd,
        timeout: arguments.timeout,
        env: (!arguments.env.is_empty()).then(|| arguments.env.into_iter().collect()),
        ..ExecRequest::default()
    };
    or_interrupted(async {
        let mut events = client.exec_stream(&arguments.id, &request).await?;
        pass_on(&mut events).await.map(exit_with)
    })
    .await
}

/// Passes on what a command writes, byte for byte if it is UTF-8, and returns
/// its exit code.
pub(crate) async fn pass_on(events: &mut EventStream<CommandEvent>) -> Result<i32> {
    let mut last_error = None;
    while let Some(event) = events.next().await? {
        match event {
            CommandEvent::Line(line) => write(&line)?,
            CommandEvent::Gap(gap) => {
                eprintln!("emberbox: {} bytes of output are lost here", gap.missed);
            }
            CommandEvent::Exit(exit) => {
                if let Some(error) = last_error {
                    eprintln!("error: {error}");
                }
                return Ok(exit.exit_code);
            }
            CommandEvent::Error(error) => {
                last_error = Some(format!("{} ({})", error.message, error.code));
            }
        }
    }
    match last_error {
        Some(error) => bail!("{error}"),
        None => {
            bail!("the server went away before the command ended; what became of it is unknown")
        }
    }
}

/// Ends as the command did.
pub(crate) fn exit_with(code: i32) -> ExitCode {
    // Codes beyond a byte cannot be ours; 255 is what shells make of them.
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn write(line: &OutputLine) -> io::Result<()> {
    match line.stream {
        OutputName::Stdout => write_to(&mut io::stdout().lock(), line),
        OutputName::Stderr => write_to(&mut io::stderr().lock(), line),
    }
}

fn write_to(to: &mut impl Write, line: &OutputLine) -> io::Result<()> {
    to.write_all(line.line.as_bytes())?;
    if line.newline {
        to.write_all(b"\n")?;
    }
    to.flush()
}
