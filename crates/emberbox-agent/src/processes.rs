//! Background processes.
//!
//! ```text
//! call ──▶ table ──▶ Process ◀── log, end ── supervise: one task per process,
//!                       └── orders ────────▶            until its process ends
//! ```
//!
//! A process never waits for who reads its output: the log keeps the newest
//! of it, and a reader that is too slow sees a gap.

use std::sync::Arc;

use emberbox_guest::process::TEXT_SHOWN;
use emberbox_guest::{
    ExitStatus, FromAgent, GuestError, GuestErrorCode, ProcessEnd, ProcessInfo, ProcessRequest,
    ProcessSpec,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::Agent;
use crate::connection::{Connection, Hangup};
use crate::exec;

mod follow;
mod log;
mod supervise;
mod table;

use log::Log;
use supervise::Order;
pub(crate) use table::Processes;

/// Orders a process has not looked at yet: it looks at once, so that a few
/// callers at a time are many.
const ORDERS: usize = 16;

/// One background process, running or ended.
pub(crate) struct Process {
    pid: u32,
    name: Option<String>,
    command: String,
    started_unix_ms: u64,
    log: std::sync::Mutex<Log>,
    /// Told after every change of log or end.
    end: watch::Sender<Option<ProcessEnd>>,
    orders: mpsc::Sender<Order>,
}

/// Answers a call about background processes.
pub(crate) async fn answer(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    request: ProcessRequest,
) -> Result<(), Hangup> {
    let outgoing = &mut connection.outgoing;
    match request {
        ProcessRequest::Start(spec) => {
            let answer = match start(agent, &spec) {
                Ok(process) => FromAgent::Process(process.info()),
                Err(error) => FromAgent::Failed(error),
            };
            outgoing.send(&answer).await
        }
        ProcessRequest::List => {
            for process in agent.processes.all() {
                outgoing.send(&FromAgent::Process(process.info())).await?;
            }
            outgoing.send(&FromAgent::End { truncated: false }).await
        }
        ProcessRequest::Get { pid } => {
            let answer = match agent.processes.find(pid) {
                Ok(process) => FromAgent::Process(process.info()),
                Err(error) => FromAgent::Failed(error),
            };
            outgoing.send(&answer).await
        }
        ProcessRequest::Signal { pid, signal } => {
            let done = order(agent, pid, |answer| Order::Signal { signal, answer }).await;
            outgoing.done(done).await
        }
        ProcessRequest::Stop { pid, grace_ms } => {
            let done = stop(agent, pid, grace_ms).await;
            outgoing.done(done).await
        }
        ProcessRequest::Input { pid, data, close } => {
            let order = order(agent, pid, |answer| Order::Input {
                data,
                close,
                answer,
            });
            let done = order.await;
            outgoing.done(done).await
        }
        ProcessRequest::Follow {
            pid,
            from_offset,
            live,
        } => match follow::open(agent, pid) {
            Ok(follower) => follower.run(connection, from_offset, live).await,
            Err(error) => outgoing.send(&FromAgent::Failed(error)).await,
        },
    }
}

/// Starts a process; it lives on its own from here.
pub(crate) fn start(agent: &Arc<Agent>, spec: &ProcessSpec) -> Result<Arc<Process>, GuestError> {
    agent.processes.admit()?;
    let started = exec::start(agent, &spec.exec)?;
    let (orders, ordered) = mpsc::channel(ORDERS);
    let process = Arc::new(Process {
        pid: started.0.pid(),
        name: spec.name.as_deref().map(shown),
        command: shown(&spec.exec.command),
        started_unix_ms: unix_ms(),
        log: std::sync::Mutex::default(),
        end: watch::Sender::new(None),
        orders,
    });
    agent.processes.insert(Arc::clone(&process));
    tokio::spawn(supervise::run(
        Arc::clone(agent),
        Arc::clone(&process),
        started,
        ordered,
        spec.exec.timeout_ms,
    ));
    Ok(process)
}

async fn stop(agent: &Agent, pid: u32, grace_ms: u64) -> Result<(), GuestError> {
    let process = agent.processes.find(pid)?;
    let mut end = process.end.subscribe();
    // Only an ended process takes no order.
    let _ = process.orders.send(Order::Stop { grace_ms }).await;
    // The process keeps the sender for as long as we hold it.
    let _ = end.wait_for(Option::is_some).await;
    Ok(())
}

/// Has the task of a process do something and answer for it.
async fn order(
    agent: &Agent,
    pid: u32,
    order: impl FnOnce(oneshot::Sender<Result<(), GuestError>>) -> Order,
) -> Result<(), GuestError> {
    let process = agent.processes.find(pid)?;
    let (answer, answered) = oneshot::channel();
    let ended = || {
        GuestError::new(
            GuestErrorCode::ProcessEnded,
            format_args!("process {pid} has ended"),
        )
    };
    process
        .orders
        .send(order(answer))
        .await
        .map_err(|_ended| ended())?;
    answered.await.map_err(|_ended| ended())?
}

impl Process {
    fn info(&self) -> ProcessInfo {
        ProcessInfo {
            pid: self.pid,
            name: self.name.clone(),
            command: self.command.clone(),
            started_unix_ms: self.started_unix_ms,
            ended: *self.end.borrow(),
            written: self.log().end(),
        }
    }

    /// How it ended, if it has.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.end.borrow().map(|end| end.status)
    }

    /// The last of what it wrote, at most `limit` bytes.
    pub(crate) fn last_words(&self, limit: usize) -> String {
        let log = self.log();
        let mut from = log.end().saturating_sub(limit as u64);
        let mut words = Vec::new();
        while let Some(piece) = log.read(from) {
            from = piece.offset + piece.data.len() as u64;
            words.extend_from_slice(&piece.data);
        }
        String::from_utf8_lossy(&words).into_owned()
    }

    fn is_live(&self) -> bool {
        self.end.borrow().is_none()
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while a log is held")
    }
}

/// As much of a text as is repeated later.
fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_SHOWN)].to_owned()
}

fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests;
