//! Interpreters in a guest that keep their variables between cells of code.
//!
//! ```text
//! cell ──stdin: {"id", "code"}──▶ driver, a background process of the guest
//!      ◀─stdout: {"id", "ok", "stdout", "stderr", "result"}─┘
//! ```
//!
//! A context is found by its process's name, so it outlives this server. Code
//! shares a process with its driver and can say anything: what comes back is
//! bounded here, and what is no answer to this cell is passed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use emberbox_api::ErrorCode;
use emberbox_core::SandboxId;
use emberbox_guest::client::{GuestClient, ProcessEvent, ProcessFollow};
use emberbox_guest::message::CHUNK;
use emberbox_guest::{ExecSpec, OutputStream, ProcessInfo, ProcessSpec};
use emberbox_store::SandboxRecord;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Control, exit_code};
use crate::Failure;

/// Longest answer of a driver: two streams of 256 KiB in base64, and a result.
const ANSWER_MAX: usize = 1024 * 1024;

/// Where cells run, as commands do.
const DIRECTORY: &str = "/root";

/// The variable that brings the driver, and that it removes.
const DRIVER: &str = "EMBERBOX_DRIVER";

/// What a shell answers when there is no such program.
const NO_PROGRAM: i32 = 127;

/// What cells are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Python,
    Javascript,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::Python, Self::Javascript];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Javascript => "javascript",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Javascript => "node",
        }
    }

    fn driver(self) -> ProcessCommand {
        let (command, script) = match self {
            Self::Python => (
                "exec python3 -c \"$EMBERBOX_DRIVER\"",
                include_str!("code/driver.py"),
            ),
            Self::Javascript => (
                "exec node -e \"$EMBERBOX_DRIVER\"",
                include_str!("code/driver.js"),
            ),
        };
        ProcessCommand { command, script }
    }
}

struct ProcessCommand {
    command: &'static str,
    script: &'static str,
}

/// An interpreter of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Context {
    pub(crate) language: Language,
    pub(crate) name: String,
}

impl Context {
    fn process_name(&self) -> String {
        format!("code:{}:{}", self.language.as_str(), self.name)
    }

    fn of_process(info: &ProcessInfo) -> Option<Self> {
        if info.ended.is_some() {
            return None;
        }
        let (language, name) = info
            .name
            .as_deref()?
            .strip_prefix("code:")?
            .split_once(':')?;
        let language = Language::ALL
            .into_iter()
            .find(|known| known.as_str() == language)?;
        let name = name.to_owned();
        Some(Self { language, name })
    }
}

/// What a cell did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CellOutcome {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) result: Value,
    pub(crate) truncated: bool,
    pub(crate) duration: Duration,
}

/// Cells that stand in line for one context, the running one included: a
/// notebook sends all of its cells at once.
const LINE_MAX: usize = 64;

/// How long a cell stands in line: as long as one request may reasonably be
/// held open for.
const LINE_WAIT: Duration = Duration::from_secs(300);

/// Who runs a cell in which context, and who waits to.
#[derive(Clone, Default)]
pub(super) struct BusyContexts(Arc<Mutex<HashMap<(SandboxId, Context), Line>>>);

struct Line {
    /// One permit, given in the order it was asked for.
    turn: Arc<Semaphore>,
    standing: usize,
}

/// A place in a context's line; dropping it leaves.
struct Place {
    all: BusyContexts,
    key: (SandboxId, Context),
    turn: Arc<Semaphore>,
}

impl BusyContexts {
    /// A place, unless the line is full.
    fn stand(&self, sandbox: &SandboxId, context: &Context) -> Option<Place> {
        let key = (sandbox.clone(), context.clone());
        let mut lines = self.lock();
        let line = lines.entry(key.clone()).or_insert_with(|| Line {
            turn: Arc::new(Semaphore::new(1)),
            standing: 0,
        });
        if line.standing >= LINE_MAX {
            return None;
        }
        line.standing += 1;
        Some(Place {
            all: self.clone(),
            key,
            turn: Arc::clone(&line.turn),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(SandboxId, Context), Line>> {
        self.0.lock().expect("no panic while the map is held")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.all.lock();
        if let Some(line) = lines.get_mut(&self.key) {
            line.standing -= 1;
            if line.standing == 0 {
                lines.remove(&self.key);
            }
        }
    }
}

impl Control {
    /// Runs a cell in a context, which is made if it is not there, after those
    /// that came before. Over its time the interpreter is killed, and the next
    /// cell gets a new one.
    pub(crate) async fn run_code(
        &self,
        record: &SandboxRecord,
        context: &Context,
        code: &str,
        within: Duration,
    ) -> Result<CellOutcome, Failure> {
        let guest = self.guest(record)?;
        let place = self.busy_contexts.stand(&record.id, context);
        let place = place.ok_or_else(|| {
            let message = format!("{LINE_MAX} cells wait for context {}", context.name);
            Failure::new(ErrorCode::ResourceState, message)
        })?;
        let turn = timeout(LINE_WAIT, place.turn.acquire()).await;
        let _turn = turn.map_err(|_elapsed| {
            let message = format!("context {} still runs another cell", context.name);
            Failure::new(ErrorCode::ResourceState, message)
        })?;
        let started = Instant::now();
        let process = match find(&guest, context).await? {
            Some(process) => process,
            None => start(&guest, context).await?,
        };
        let conversation = converse(&guest, context, &process, code);
        let Ok(said) = timeout(within, conversation).await else {
            guest.stop_process(process.pid, Duration::ZERO).await?;
            let message = format!(
                "the cell ran over its {} s; its context was reset",
                within.as_secs()
            );
            return Err(Failure::new(ErrorCode::ExecTimeout, message));
        };
        said.map(|outcome| CellOutcome {
            duration: started.elapsed(),
            ..outcome
        })
    }

    /// The contexts that run.
    pub(crate) async fn code_contexts(
        &self,
        record: &SandboxRecord,
    ) -> Result<Vec<Context>, Failure> {
        let processes = self.guest(record)?.processes().await?;
        Ok(processes.iter().filter_map(Context::of_process).collect())
    }

    /// Ends the contexts that are meant, and their variables with them. Says
    /// how many there were.
    pub(crate) async fn reset_code(
        &self,
        record: &SandboxRecord,
        meant: impl Fn(&Context) -> bool,
    ) -> Result<usize, Failure> {
        let guest = self.guest(record)?;
        let mut ended = 0;
        for process in guest.processes().await? {
            if Context::of_process(&process).is_some_and(|context| meant(&context)) {
                guest.stop_process(process.pid, Duration::ZERO).await?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}

async fn find(guest: &GuestClient, context: &Context) -> Result<Option<ProcessInfo>, Failure> {
    let mut processes = guest.processes().await?;
    let newest = processes
        .iter()
        .rposition(|process| Context::of_process(process).as_ref() == Some(context));
    Ok(newest.map(|at| processes.swap_remove(at)))
}

async fn start(guest: &GuestClient, context: &Context) -> Result<ProcessInfo, Failure> {
    let ProcessCommand { command, script } = context.language.driver();
    let spec = ProcessSpec {
        exec: ExecSpec {
            command: command.to_owned(),
            cwd: DIRECTORY.to_owned(),
            env: vec![(DRIVER.to_owned(), script.to_owned())],
            timeout_ms: 0,
            stdin: true,
        },
        name: Some(context.process_name()),
    };
    Ok(guest.start_process(spec).await?)
}

/// Sends a cell and reads what comes until its answer does.
async fn converse(
    guest: &GuestClient,
    context: &Context,
    process: &ProcessInfo,
    code: &str,
) -> Result<CellOutcome, Failure> {
    let id = format!("{:016x}", rand::random::<u64>());
    let mut request = json!({ "id": id, "code": code }).to_string();
    request.push('\n');
    let mut request = Bytes::from(request);
    // Before the cell is sent: its answer must not be missed.
    let mut output = guest.follow_process(process.pid, process.written).await?;
    while !request.is_empty() {
        let piece = request.split_to(request.len().min(CHUNK));
        if let Err(error) = guest.write_process(process.pid, piece, false).await {
            let failure = Failure::from(error);
            // It has ended, which is told with its reason below.
            if failure.code() == ErrorCode::ProcessNotRunning {
                break;
            }
            return Err(failure);
        }
    }
    answer(&mut output, context, &id).await
}

async fn answer(
    output: &mut ProcessFollow,
    context: &Context,
    id: &str,
) -> Result<CellOutcome, Failure> {
    let mut line = Vec::new();
    loop {
        let data = match output.next().await? {
            ProcessEvent::Output {
                stream: OutputStream::Stdout,
                data,
                ..
            } => data,
            ProcessEvent::Output { .. } => continue,
            ProcessEvent::Exited(status) => return ended(context, exit_code(status)),
            ProcessEvent::End => return ended(context, 0),
        };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if line.len() + piece.len() > ANSWER_MAX {
                line.clear();
            } else {
                line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                if let Some(outcome) = parse(&line, id) {
                    return Ok(outcome);
                }
                line.clear();
            }
        }
    }
}

fn ended(context: &Context, code: i32) -> Result<CellOutcome, Failure> {
    if code == NO_PROGRAM {
        let program = context.language.program();
        let message = format!("there is no {program} in this sandbox");
        return Err(Failure::new(ErrorCode::ExecFailed, message));
    }
    Ok(CellOutcome {
        ok: false,
        stdout: String::new(),
        stderr: format!("the interpreter ended with code {code}; its variables are gone\n"),
        result: Value::Null,
        truncated: false,
        duration: Duration::ZERO,
    })
}

#[derive(Deserialize)]
struct Reply {
    id: String,
    ok: bool,
    stdout: String,
    stderr: String,
    result: Value,
    truncated: bool,
}

/// The answer to this cell, if the line is one.
fn parse(line: &[u8], id: &str) -> Option<CellOutcome> {
    let reply: Reply = serde_json::from_slice(line).ok()?;
    let text = |encoded: &str| {
        let bytes = STANDARD.decode(encoded).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    (reply.id == id).then_some(())?;
    Some(CellOutcome {
        ok: reply.ok,
        stdout: text(&reply.stdout)?,
        stderr: text(&reply.stderr)?,
        result: reply.result,
        truncated: reply.truncated,
        duration: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests;
