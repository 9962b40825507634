//! A shell or a command in a terminal, which is ours.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use emberbox_api::OpenTerminal;
use emberbox_api::client::{Client, TerminalEvent, TerminalInput, TerminalOutput};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exec::exit_with;
use crate::{cli, shell};

/// Bytes read from the keyboard at a time: a paste is some pieces.
const PIECE: usize = 16 * 1024;

/// What shells add to the number of a signal that ended a command.
const SIGNAL_BASE: i32 = 128;

/// Opens a login shell.
pub(super) async fn shell(client: &Client, arguments: cli::Shell) -> Result<ExitCode> {
    let request = OpenTerminal {
        cwd: arguments.cwd,
        env: Some(arguments.env.into_iter().collect()),
        ..OpenTerminal::default()
    };
    run(client, &arguments.id, request).await
}

/// Runs a command.
pub(super) async fn command(client: &Client, arguments: cli::Exec) -> Result<ExitCode> {
    let request = OpenTerminal {
        shell: Some(shell::line(&arguments.command)),
        cwd: arguments.cwd,
        env: Some(arguments.env.into_iter().collect()),
        ..OpenTerminal::default()
    };
    run(client, &arguments.id, request).await
}

async fn run(client: &Client, id: &str, mut request: OpenTerminal) -> Result<ExitCode> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!("this is no terminal; use `sandbox exec -i` to pass on standard input");
    }
    if let Some((cols, rows)) = size() {
        request.cols = Some(cols.into());
        request.rows = Some(rows.into());
    }
    if let Ok(term) = std::env::var("TERM") {
        let env = request.env.get_or_insert_default();
        env.entry("TERM".to_owned()).or_insert(term);
    }
    let terminal = client.open_terminal(id, &request).await?;
    let session = &terminal.session_id;
    let ended = look(client, id, session).await;
    if !matches!(ended, Ok(Ending::Exited(_))) {
        // Nothing is left behind. It may be gone with its sandbox.
        let _ = client.close_terminal(id, session).await;
    }
    match ended? {
        Ending::Exited(code) => Ok(exit_with(code)),
        Ending::Signal(signal) => Ok(exit_with(SIGNAL_BASE + signal.as_raw_value())),
        Ending::Closed(reason) => bail!("the terminal ended: {reason}"),
    }
}

enum Ending {
    /// The shell did.
    Exited(i32),
    /// We were told to.
    Signal(SignalKind),
    /// The server did.
    Closed(String),
}

/// Connects our terminal with the sandbox's. However this returns, ours is as
/// it was.
async fn look(client: &Client, id: &str, session: &str) -> Result<Ending> {
    let (input, mut output) = client.attach_terminal(id, session).await?;
    // Before anything is to be undone.
    let mut signals = Signals::take().context("cannot wait for signals")?;
    let _raw = Raw::new().context("cannot set up the terminal")?;
    tokio::select! {
        ending = show(&mut output) => ending,
        error = type_in(input) => Err(error),
        signal = signals.next() => Ok(Ending::Signal(signal)),
    }
}

async fn show(output: &mut TerminalOutput) -> Result<Ending> {
    loop {
        match output.next().await? {
            TerminalEvent::Output(data) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&data)?;
                stdout.flush()?;
            }
            TerminalEvent::Exited(code) => return Ok(Ending::Exited(code)),
            TerminalEvent::Closed(reason) => return Ok(Ending::Closed(reason)),
        }
    }
}

/// Passes on what is typed and how large our terminal is; returns only why it
/// cannot.
async fn type_in(mut input: TerminalInput) -> anyhow::Error {
    match type_to_end(&mut input).await {
        // What is left of the shell is up to the shell; the socket stays open.
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

async fn type_to_end(input: &mut TerminalInput) -> Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut resized = signal(SignalKind::window_change())?;
    let mut piece = vec![0; PIECE];
    // It may have changed since the terminal was opened.
    resize(input).await?;
    loop {
        tokio::select! {
            read = stdin.read(&mut piece) => {
                let read = read.context("cannot read the keyboard")?;
                if read == 0 {
                    return Ok(());
                }
                input.write(Bytes::copy_from_slice(&piece[..read])).await?;
            }
            _ = resized.recv() => resize(input).await?,
        }
    }
}

async fn resize(input: &mut TerminalInput) -> Result<()> {
    if let Some((cols, rows)) = size() {
        input.resize(cols, rows).await?;
    }
    Ok(())
}

/// Columns and rows of our terminal, if it has any.
fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// The signals that end programs. Ctrl-C is none: it is typed.
struct Signals {
    hang_up: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on they do not end this program.
    fn take() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

/// Our terminal, passing on every key. Dropped, it is as it was.
struct Raw {
    before: Termios,
}

impl Raw {
    fn new() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
