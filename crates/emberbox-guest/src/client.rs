//! The host's side: typed calls over a small pool of connections.
//!
//! A guest is hostile: every answer has a deadline and every collection a
//! limit. A connection whose call did not end cleanly is closed, never reused.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::frame::{self, FrameError};
use crate::{
    App, Entry, ExecSpec, ExitStatus, Export, FileStat, FromAgent, GENERATION, GuestError,
    Identity, ListSpec, OutputStream, Pong, Rehearsal, Request, Revival, ToAgent, Token, WriteSpec,
};

mod changes;
mod exec;
mod file;
mod process;
mod terminal;

pub use changes::WatchCall;
pub use exec::{ExecCall, ExecEvent, ExecOutput};
pub use file::{ArchiveReader, FileReader, FileWriter};
pub use process::{ProcessEvent, ProcessFollow};
pub use terminal::{TerminalEvent, TerminalInput, TerminalOutput};

/// Idle connections kept per guest: enough for a few calls at once, few enough
/// that a guest's descriptor table never matters.
const IDLE_CONNECTIONS: usize = 4;

/// How long one answer that needs no work may take. Software emulation on a
/// loaded machine needs most of it.
const ANSWER: Duration = Duration::from_secs(20);

/// How long preparing a seed may take: it starts every language runtime once.
const PREPARE_SEED: Duration = Duration::from_secs(180);

/// How long one attempt to reach a guest that is coming up waits. A restored
/// guest answers in a fraction of it; a lost packet costs no more.
const DIAL_ATTEMPT: Duration = Duration::from_millis(500);

/// Pause between attempts to reach a guest that is coming up.
const DIAL_PAUSE: Duration = Duration::from_millis(2);

/// Opens connections to one guest's agent.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// A connected stream with `TCP_NODELAY`, from inside the guest's network.
    async fn dial(&self) -> io::Result<TcpStream>;
}

/// Why a call to a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent answered with an error; the guest is fine.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// No connection to the agent.
    #[error("cannot reach the guest agent")]
    Unreachable(#[source] io::Error),
    /// The connection failed during the call: the outcome is unknown.
    #[error("the call to the guest agent broke off")]
    Broken(#[from] FrameError),
    /// No answer in time: the outcome is unknown.
    #[error("the guest agent did not answer in time")]
    TimedOut,
    /// An answer that does not belong to the call.
    #[error("the guest agent answered out of turn")]
    Unexpected,
    /// The VM has ended.
    #[error("the guest has ended")]
    Ended,
    /// The agent speaks another generation of the protocol.
    #[error("the guest agent speaks protocol generation {0}, this host {GENERATION}")]
    Generation(u16),
}

/// Typed calls to one life of one guest. Cheap to clone.
#[derive(Clone)]
pub struct GuestClient {
    shared: Arc<Shared>,
}

struct Shared {
    dial: Box<dyn Dial>,
    token: Token,
    idle: Mutex<VecDeque<Connection>>,
    /// Whether the VM has ended: a guest that is gone closes no connection.
    ended: watch::Sender<bool>,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl GuestClient {
    /// A client that reaches its guest through `dial` and opens it with `token`.
    pub fn new(dial: impl Dial, token: Token) -> Self {
        let shared = Shared {
            dial: Box::new(dial),
            token,
            idle: Mutex::default(),
            ended: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The VM has ended: every call, also one under way, fails with
    /// [`ClientError::Ended`] at once instead of waiting for an answer.
    pub fn end(&self) {
        self.shared.ended.send_replace(true);
        self.shared
            .idle
            .lock()
            .expect("no panic while the pool is held")
            .clear();
    }

    /// One ping, answered or not.
    pub async fn ping(&self) -> Result<Pong, ClientError> {
        let mut call = self.begin(Request::Ping).await?;
        let FromAgent::Pong(pong) = call.answer(ANSWER).await? else {
            return Err(ClientError::Unexpected);
        };
        call.finish();
        if pong.generation != GENERATION {
            return Err(ClientError::Generation(pong.generation));
        }
        Ok(pong)
    }

    /// Pings until the agent answers or `deadline` passes. Cancel-safe.
    pub async fn wait_ready(&self, deadline: Instant) -> Result<Pong, ClientError> {
        loop {
            let last = match timeout(DIAL_ATTEMPT, self.ping()).await {
                Ok(Ok(pong)) => return Ok(pong),
                Ok(Err(generation @ ClientError::Generation(_))) => return Err(generation),
                Ok(Err(error)) => error,
                Err(_elapsed) => ClientError::TimedOut,
            };
            let next = Instant::now() + DIAL_PAUSE;
            if next >= deadline {
                return Err(last);
            }
            sleep_until(next).await;
        }
    }

    /// Gives an unclaimed guest its identity. When this returns, no process of
    /// the guest can see anything of the seed's.
    pub async fn claim(&self, identity: Identity) -> Result<(), ClientError> {
        self.plain_as(Token::UNCLAIMED, Request::Claim(identity), ANSWER)
            .await
    }

    /// Begins a new life of a guest that was restored from a snapshot of
    /// itself. This client has the token of the old one, so it is of no use any
    /// more when this returns.
    pub async fn revive(&self, revival: Revival) -> Result<(), ClientError> {
        self.plain(Request::Revive(revival), ANSWER).await
    }

    /// Holds every process of the user's, as of a moment of the host's clock.
    /// Says how long the first has been held, which is the guest's own word.
    pub async fn freeze(&self, asked_unix_ns: u64) -> Result<Duration, ClientError> {
        let mut call = self.begin(Request::Freeze { asked_unix_ns }).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Held { for_ns } => {
                call.finish();
                Ok(Duration::from_nanos(for_ns))
            }
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Lets them go, and sets the clock.
    pub async fn thaw(&self, unix_time_ns: u64) -> Result<(), ClientError> {
        self.plain(Request::Thaw { unix_time_ns }, ANSWER).await
    }

    /// Gives the guest other variables, for processes that start from now on.
    pub async fn set_environment(&self, env: Vec<(String, String)>) -> Result<(), ClientError> {
        self.plain(Request::SetEnvironment(env), ANSWER).await
    }

    /// Warms an unclaimed guest for a memory snapshot, with its app running if
    /// it has one.
    pub async fn prepare_seed(&self, app: Option<App>) -> Result<(), ClientError> {
        let patience = app.as_ref().map_or(0, |app| app.patience_ms);
        let within = PREPARE_SEED + Duration::from_millis(patience);
        self.plain_as(Token::UNCLAIMED, Request::PrepareSeed(app), within)
            .await
    }

    /// Ends every process of the guest and reads its files as a tar archive.
    /// What is in it is the guest's own word.
    pub async fn export(&self, export: Export) -> Result<ArchiveReader, ClientError> {
        let call = self.begin(Request::Export(export)).await?;
        Ok(ArchiveReader::new(call))
    }

    /// Lets an unclaimed guest go through a claim and a command once, so that
    /// both are quick when they come.
    pub async fn rehearse(&self, rehearsal: Rehearsal) -> Result<(), ClientError> {
        self.plain_as(Token::UNCLAIMED, Request::Rehearse(rehearsal), ANSWER)
            .await
    }

    /// Writes the guest's dirty pages to its scratch disk.
    pub async fn sync(&self) -> Result<(), ClientError> {
        self.plain(Request::Sync, PREPARE_SEED).await
    }

    /// Starts a command. Dropping the returned call kills the command.
    pub async fn exec(&self, spec: ExecSpec) -> Result<ExecCall, ClientError> {
        let deadline = Instant::now() + Duration::from_millis(spec.timeout_ms) + ANSWER;
        let mut call = self.begin(Request::Exec(spec)).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Started { pid } => Ok(ExecCall::new(call, pid, deadline)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Begins a file. Nothing stands under its name before
    /// [`FileWriter::finish`]; dropping the writer leaves nothing behind.
    pub async fn write_file(&self, spec: WriteSpec) -> Result<FileWriter, ClientError> {
        let mut call = self.begin(Request::WriteFile(spec)).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Done => Ok(FileWriter::new(call)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Opens a file.
    pub async fn read_file(&self, path: &str) -> Result<FileReader, ClientError> {
        let mut call = self
            .begin(Request::ReadFile {
                path: path.to_owned(),
            })
            .await?;
        match call.answer(ANSWER).await? {
            FromAgent::Stat(stat) => Ok(FileReader::new(call, stat)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Lists a directory: its entries and whether the limit cut them.
    pub async fn list(&self, spec: ListSpec) -> Result<(Vec<Entry>, bool), ClientError> {
        let limit = spec.limit as usize;
        let mut call = self.begin(Request::List(spec)).await?;
        let mut entries = Vec::new();
        loop {
            match call.answer(ANSWER).await? {
                FromAgent::Entries(more) if entries.len() + more.len() <= limit => {
                    entries.extend(more);
                }
                FromAgent::End { truncated } => {
                    call.finish();
                    return Ok((entries, truncated));
                }
                _ => return Err(ClientError::Unexpected),
            }
        }
    }

    /// What a path is.
    pub async fn stat(&self, path: &str) -> Result<FileStat, ClientError> {
        let mut call = self
            .begin(Request::Stat {
                path: path.to_owned(),
            })
            .await?;
        match call.answer(ANSWER).await? {
            FromAgent::Stat(stat) => {
                call.finish();
                Ok(stat)
            }
            _ => Err(ClientError::Unexpected),
        }
    }

    /// A connection to a server that listens on `port` inside the guest. What
    /// comes over it is the guest's own word. It does not end with the VM by
    /// itself: see [`GuestClient::ended`].
    pub async fn connect(&self, port: u16) -> Result<TcpStream, ClientError> {
        // Never one of the pool: it is not coming back, and what an old one
        // may still hold would be taken for the server's.
        let mut call = self.begin_fresh(Request::Connect { port }).await?;
        match call.answer(ANSWER).await? {
            FromAgent::Done => Ok(call.into_stream()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Resolves once the VM has ended.
    pub async fn ended(&self) {
        let mut ended = self.shared.ended.subscribe();
        // The sender lives as long as this client.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    async fn plain(&self, request: Request, within: Duration) -> Result<(), ClientError> {
        self.plain_as(self.shared.token.clone(), request, within)
            .await
    }

    async fn plain_as(
        &self,
        token: Token,
        request: Request,
        within: Duration,
    ) -> Result<(), ClientError> {
        let mut call = self.begin_as(token, request).await?;
        match call.answer(within).await? {
            FromAgent::Done => {
                call.finish();
                Ok(())
            }
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn begin(&self, request: Request) -> Result<Call, ClientError> {
        self.begin_as(self.shared.token.clone(), request).await
    }

    async fn begin_as(&self, token: Token, request: Request) -> Result<Call, ClientError> {
        let connection = match self.shared.take_idle() {
            Some(connection) => connection,
            None => self.dial().await?,
        };
        self.begin_on(connection, token, request).await
    }

    async fn begin_fresh(&self, request: Request) -> Result<Call, ClientError> {
        let connection = self.dial().await?;
        let token = self.shared.token.clone();
        self.begin_on(connection, token, request).await
    }

    async fn dial(&self) -> Result<Connection, ClientError> {
        let dialled = timeout(ANSWER, self.shared.dial.dial()).await;
        let stream = dialled
            .map_err(|_elapsed| ClientError::TimedOut)?
            .map_err(ClientError::Unreachable)?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
        })
    }

    async fn begin_on(
        &self,
        connection: Connection,
        token: Token,
        request: Request,
    ) -> Result<Call, ClientError> {
        let mut call = Call {
            shared: Arc::clone(&self.shared),
            connection: Some(connection),
        };
        call.send(&ToAgent::Call { token, request }).await?;
        Ok(call)
    }
}

impl Shared {
    /// An idle connection that is still open as far as this side knows.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().expect("no panic while the pool is held");
        while let Some(connection) = idle.pop_back() {
            let mut probe = [0];
            // An idle agent says nothing: readable means closed or broken.
            match connection.stream.try_read(&mut probe) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(connection),
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    fn put_idle(&self, connection: Connection) {
        let mut idle = self.idle.lock().expect("no panic while the pool is held");
        if idle.len() < IDLE_CONNECTIONS {
            idle.push_back(connection);
        }
    }
}

/// One call on one connection. Dropped before [`Call::finish`], it closes the
/// connection, which cancels the call in the guest.
struct Call {
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Call {
    fn connection(&mut self) -> &mut Connection {
        self.connection
            .as_mut()
            .expect("a call keeps its connection until it is finished")
    }

    async fn send(&mut self, message: &ToAgent) -> Result<(), ClientError> {
        let stream = &mut self.connection().stream;
        within(ANSWER, frame::write(stream, message)).await
    }

    /// The next frame, within `limit`; an error answer ends the call.
    async fn answer(&mut self, limit: Duration) -> Result<FromAgent, ClientError> {
        self.answer_by(Instant::now() + limit).await
    }

    async fn answer_by(&mut self, deadline: Instant) -> Result<FromAgent, ClientError> {
        let shared = Arc::clone(&self.shared);
        let Connection { stream, buffer } = self.connection();
        let mut ended = shared.ended.subscribe();
        let answer = tokio::select! {
            // An answer that is there counts even if the guest is gone by now.
            biased;
            answer = timeout_at(deadline, frame::read(stream, buffer)) => answer,
            _ = ended.wait_for(|ended| *ended) => return Err(ClientError::Ended),
        };
        match answer.map_err(|_elapsed| ClientError::TimedOut)?? {
            FromAgent::Failed(error) => {
                self.finish();
                Err(error.into())
            }
            answer => Ok(answer),
        }
    }

    /// The bare connection: frames are read to their last byte and no further.
    fn into_stream(mut self) -> TcpStream {
        let connection = self.connection.take();
        connection
            .expect("a call keeps its connection until it is finished")
            .stream
    }

    /// The call ended cleanly: its connection may be used again.
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.put_idle(connection);
        }
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, ClientError> {
    Ok(timeout(limit, work)
        .await
        .map_err(|_elapsed| ClientError::TimedOut)??)
}
