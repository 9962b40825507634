//! QEMU's machine protocol: one JSON object per line over a Unix socket
//! (QEMU's `docs/interop/qmp-spec`).
//!
//! Commands are answered in order; events come in between and are kept as
//! facts about the VM.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use crate::engine::EngineError;

/// How long QEMU may take to answer one command. A loaded machine in software
/// emulation needs seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// How long moving a state may take: all of a guest's memory to a slow disk.
const MIGRATION: Duration = Duration::from_secs(300);

/// Longest line QEMU may send: the console's ring, escaped.
const MAX_LINE: u64 = 1024 * 1024;

/// What QEMU has said about its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuestFact {
    /// Nothing final.
    Alive,
    /// It powered off or reset; QEMU waits with stopped vCPUs.
    Shutdown,
    /// QEMU closed the socket.
    Gone,
}

/// Who waits for an answer, in the order of the commands.
type Pending = Arc<Mutex<VecDeque<oneshot::Sender<Result<Value, String>>>>>;

/// A connection to one QEMU.
pub(super) struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    pending: Pending,
    fact: watch::Receiver<GuestFact>,
    /// The last word about a state on its way in or out.
    migration: watch::Receiver<String>,
    /// How often the guest was stopped because a write found no room.
    full: watch::Receiver<u64>,
}

impl Qmp {
    /// Connects and negotiates. The socket may be older than the QEMU that
    /// will serve it.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(path).await?.into_split();
        let pending = Arc::new(Mutex::new(VecDeque::new()));
        let (report, fact) = watch::channel(GuestFact::Alive);
        let (progress, migration) = watch::channel(String::new());
        let (stops, full) = watch::channel(0);
        let reports = Reports {
            fact: report,
            migration: progress,
            full: stops,
        };
        tokio::spawn(read_lines(
            BufReader::new(reader),
            Arc::clone(&pending),
            reports,
        ));
        let qmp = Self {
            writer: tokio::sync::Mutex::new(writer),
            pending,
            fact,
            migration,
            full,
        };
        qmp.execute("qmp_capabilities", json!({}))
            .await
            .map_err(io::Error::other)?;
        Ok(qmp)
    }

    /// Runs one command.
    pub(super) async fn execute(
        &self,
        command: &'static str,
        arguments: Value,
    ) -> Result<Value, EngineError> {
        self.send(command, arguments, None).await
    }

    /// Runs a command that moves a state in or out, and waits until it is done.
    /// Needs the `events` migration capability.
    pub(super) async fn migrate(
        &self,
        command: &'static str,
        uri: String,
    ) -> Result<(), EngineError> {
        let failed = |detail: &str| EngineError::Control {
            command,
            detail: detail.to_owned(),
        };
        let mut status = self.migration.clone();
        status.mark_unchanged();
        self.execute(command, json!({ "uri": uri })).await?;
        let moved = async {
            loop {
                status
                    .changed()
                    .await
                    .map_err(|_gone| failed("QEMU ended over it"))?;
                match status.borrow_and_update().as_str() {
                    "completed" => return Ok(()),
                    "failed" | "cancelled" => return Err(failed("QEMU could not finish it")),
                    _ => {}
                }
            }
        };
        let moved = tokio::time::timeout(MIGRATION, moved).await;
        moved.unwrap_or_else(|_elapsed| Err(failed("it was not done in time")))
    }

    /// Hands QEMU a descriptor under `name` (command `getfd`).
    pub(super) async fn pass(&self, name: &str, fd: BorrowedFd<'_>) -> Result<(), EngineError> {
        self.send("getfd", json!({ "fdname": name }), Some(fd))
            .await
            .map(drop)
    }

    /// Hands QEMU a descriptor to open under a name (command `add-fd`): the
    /// number of the set that holds it, until `remove-fd`.
    pub(super) async fn add_fd(&self, fd: BorrowedFd<'_>) -> Result<u64, EngineError> {
        let added = self.send("add-fd", json!({}), Some(fd)).await?;
        added["fdset-id"]
            .as_u64()
            .ok_or_else(|| EngineError::Control {
                command: "add-fd",
                detail: "it named no set".to_owned(),
            })
    }

    /// Resolves when the guest is not alive any more. Cancel-safe.
    pub(super) async fn ended(&self) -> GuestFact {
        let mut fact = self.fact.clone();
        let ended = fact.wait_for(|fact| *fact != GuestFact::Alive).await;
        ended.map_or(GuestFact::Gone, |fact| fact.clone())
    }

    /// Tells of each time the guest was stopped because a write found no room
    /// on this machine; closes with the socket.
    pub(super) fn full(&self) -> watch::Receiver<u64> {
        self.full.clone()
    }

    async fn send(
        &self,
        command: &'static str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, EngineError> {
        let failed = |detail: String| EngineError::Control { command, detail };
        let line = format!(
            "{}\n",
            json!({ "execute": command, "arguments": arguments })
        );
        let (answer, answered) = oneshot::channel();
        {
            // Held until the line is written: answers come in the order of commands.
            let mut writer = self.writer.lock().await;
            self.pending
                .lock()
                .expect("no panic while held")
                .push_back(answer);
            let written = match fd {
                None => writer.write_all(line.as_bytes()).await,
                Some(fd) => write_with_fd(&mut writer, line.as_bytes(), fd).await,
            };
            written.map_err(|error| failed(error.to_string()))?;
        }
        match tokio::time::timeout(ANSWER, answered).await {
            Ok(Ok(result)) => result.map_err(failed),
            Ok(Err(_closed)) => Err(failed("QEMU closed its control socket".to_owned())),
            Err(_elapsed) => Err(failed("no answer in time".to_owned())),
        }
    }
}

/// Where events are told.
struct Reports {
    fact: watch::Sender<GuestFact>,
    migration: watch::Sender<String>,
    full: watch::Sender<u64>,
}

impl Reports {
    fn record(&self, event: &str, data: &Value) {
        match event {
            "SHUTDOWN" | "GUEST_PANICKED" => {
                self.fact.send_replace(GuestFact::Shutdown);
            }
            "MIGRATION" => {
                let status = data["status"].as_str().unwrap_or_default();
                self.migration.send_replace(status.to_owned());
            }
            "BLOCK_IO_ERROR" if data["nospace"] == true && data["action"] == "stop" => {
                self.full.send_modify(|stops| *stops += 1);
            }
            _ => {}
        }
    }
}

async fn write_with_fd(
    writer: &mut OwnedWriteHalf,
    line: &[u8],
    fd: BorrowedFd<'_>,
) -> io::Result<()> {
    let stream: &UnixStream = writer.as_ref();
    let fds = [fd.as_raw_fd()];
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let rights = [ControlMessage::ScmRights(&fds)];
            let data = [IoSlice::new(line)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            Ok(sendmsg::<()>(
                stream.as_raw_fd(),
                &data,
                &rights,
                flags,
                None,
            )?)
        })
        .await?;
    // The descriptor went with the first byte; the rest, if any, is plain.
    writer.write_all(&line[sent..]).await
}

async fn read_lines(mut reader: BufReader<OwnedReadHalf>, pending: Pending, reports: Reports) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => break,
            Ok(_) if !line.ends_with(b"\n") => break,
            Ok(_) => {}
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            break;
        };
        if let Some(event) = message["event"].as_str() {
            reports.record(event, &message["data"]);
            continue;
        }
        let result = match (message.get("return"), message["error"]["desc"].as_str()) {
            (Some(value), _) => Ok(value.clone()),
            (None, Some(description)) => Err(description.to_owned()),
            // The greeting.
            (None, None) => continue,
        };
        let waiting = pending.lock().expect("no panic while held").pop_front();
        if let Some(waiting) = waiting {
            // Nobody waits any more when its deadline has passed.
            let _ = waiting.send(result);
        }
    }
    reports.fact.send_replace(GuestFact::Gone);
    pending.lock().expect("no panic while held").clear();
}
