//! One connection: frames in, frames out, one call at a time.
//!
//! A connection that breaks the protocol, or whose call could not keep it in
//! step, is closed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use emberbox_guest::frame::{self, FrameError};
use emberbox_guest::{
    FromAgent, GuestError, GuestErrorCode, ProcessRequest, Request, TerminalRequest, ToAgent,
};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::{exec, export, files, processes, rehearsal, relay, seed, terminals, watch};

/// How long a new connection may take to send its first call: whoever does not
/// know the token must not hold a place.
const FIRST_CALL: Duration = Duration::from_secs(10);

/// A kept read buffer is given back above this: most frames are small.
const KEPT_BUFFER: usize = 128 * 1024;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Hangup {
    /// The peer went away, or sent what is no frame.
    #[error("the connection failed")]
    Frame(#[from] FrameError),
    /// The peer sent a frame that has no meaning where it came.
    #[error("a frame out of turn")]
    OutOfTurn,
    /// The call carried a wrong token.
    #[error("the token is not this guest's")]
    Unauthorized,
    /// The connection was a relay's and is used up.
    #[error("the connection was given away")]
    GivenAway,
}

/// What frames are read from.
pub(crate) type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// What frames are written to.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Both halves of a connection.
pub(crate) struct Connection {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    /// Who called, if it came over the network.
    peer: Option<SocketAddr>,
}

impl Connection {
    pub(crate) fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            incoming: Incoming::new(Box::new(reader)),
            outgoing: Outgoing {
                writer: Box::new(writer),
            },
            peer: None,
        }
    }

    /// Both halves as plain streams, with every byte that came after the call.
    /// `None` in the middle of a frame. The connection has no frames after it.
    pub(crate) fn give_away(&mut self) -> Option<(Reader, &mut Writer)> {
        Some((self.incoming.give_away()?, &mut self.outgoing.writer))
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(agent: Arc<Agent>, stream: TcpStream) {
    let peer = stream.peer_addr().ok();
    let (reader, writer) = stream.into_split();
    let mut connection = Connection {
        peer,
        ..Connection::new(reader, writer)
    };
    let Ok(Ok(first)) = timeout(FIRST_CALL, connection.incoming.next()).await else {
        return;
    };
    // How a connection ended is the host's to know: it closed it or sees it.
    let _ = serve_calls(&agent, &mut connection, first).await;
}

async fn serve_calls(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    first: ToAgent,
) -> Result<(), Hangup> {
    let mut frame = first;
    let mut input_may_trail = false;
    loop {
        match frame {
            ToAgent::Call { token, request } => {
                let takes_input = Kind::of(&request).takes_input;
                if let Err(refusal) = admit(agent, &token, &request) {
                    let unauthorized = refusal.code == GuestErrorCode::Unauthorized;
                    connection
                        .outgoing
                        .send(&FromAgent::Failed(refusal))
                        .await?;
                    if unauthorized {
                        return Err(Hangup::Unauthorized);
                    }
                } else {
                    answer(agent, connection, request).await?;
                }
                input_may_trail = takes_input;
            }
            // A command or terminal may end before the host has sent all of
            // its input.
            ToAgent::Data(_) | ToAgent::End | ToAgent::Resize(_) if input_may_trail => {}
            ToAgent::Data(_) | ToAgent::End | ToAgent::Resize(_) => {
                let error = GuestError::new(GuestErrorCode::Protocol, "input without a call");
                connection.outgoing.send(&FromAgent::Failed(error)).await?;
                return Err(Hangup::OutOfTurn);
            }
        }
        frame = connection.incoming.next().await?;
    }
}

/// What a call is for those who look at it from outside.
#[derive(Clone, Copy)]
struct Kind {
    /// Input may come until after it has ended.
    takes_input: bool,
    /// It has to wait until processes may run.
    starts_a_process: bool,
    /// It may be made of a guest without an identity.
    fits_unclaimed: bool,
}

impl Kind {
    const OTHER: Self = Self {
        takes_input: false,
        starts_a_process: false,
        fits_unclaimed: false,
    };

    fn of(request: &Request) -> Self {
        match request {
            Request::Exec(spec) => Self {
                takes_input: spec.stdin,
                starts_a_process: true,
                ..Self::OTHER
            },
            Request::Process(ProcessRequest::Start(_))
            | Request::Terminal(TerminalRequest::Open(_)) => Self {
                starts_a_process: true,
                ..Self::OTHER
            },
            Request::Terminal(TerminalRequest::Attach { .. }) => Self {
                takes_input: true,
                ..Self::OTHER
            },
            Request::Ping | Request::Claim(_) | Request::PrepareSeed(_) | Request::Rehearse(_) => {
                Self {
                    fits_unclaimed: true,
                    ..Self::OTHER
                }
            }
            Request::WriteFile(_)
            | Request::ReadFile { .. }
            | Request::List(_)
            | Request::Stat { .. }
            | Request::Sync
            | Request::Connect { .. }
            | Request::Process(_)
            | Request::Terminal(TerminalRequest::Close { .. })
            | Request::Watch(_)
            | Request::Revive(_)
            | Request::Freeze { .. }
            | Request::Thaw { .. }
            | Request::Export(_)
            | Request::SetEnvironment(_) => Self::OTHER,
        }
    }
}

/// Whether a call may be made now, with this token.
fn admit(
    agent: &Agent,
    token: &emberbox_guest::Token,
    request: &Request,
) -> Result<(), GuestError> {
    use GuestErrorCode::{AlreadyClaimed, Unauthorized, Unclaimed};
    if !agent.is_claimed() {
        return if Kind::of(request).fits_unclaimed {
            Ok(())
        } else {
            Err(GuestError::new(Unclaimed, "the guest has no identity yet"))
        };
    }
    // A second claim has no token to show: it does not know this guest's.
    if matches!(request, Request::Claim(_)) {
        return Err(GuestError::new(
            AlreadyClaimed,
            "the guest is claimed already",
        ));
    }
    if !agent.admits(token) {
        return Err(GuestError::new(
            Unauthorized,
            "the token is not this guest's",
        ));
    }
    if matches!(request, Request::PrepareSeed(_) | Request::Rehearse(_)) {
        return Err(GuestError::new(
            AlreadyClaimed,
            "only a guest without an identity can be prepared",
        ));
    }
    Ok(())
}

async fn answer(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    request: Request,
) -> Result<(), Hangup> {
    if Kind::of(&request).starts_a_process {
        agent.freezer.released().await;
    }
    match request {
        Request::Ping => {
            let pong = FromAgent::Pong(agent.pong());
            connection.outgoing.send(&pong).await
        }
        Request::Claim(identity) => {
            let done = agent.claim(identity);
            connection.outgoing.done(done).await
        }
        Request::PrepareSeed(app) => {
            let done = seed::prepare(agent, app).await;
            connection.outgoing.done(done).await
        }
        Request::Rehearse(rehearsal) => {
            let done = rehearsal::run(agent, &rehearsal).await;
            connection.outgoing.done(done).await
        }
        Request::Exec(spec) => exec::run(agent, connection, spec).await,
        Request::Export(export) => export::send(agent, &mut connection.outgoing, export).await,
        Request::WriteFile(spec) => files::write(connection, spec).await,
        Request::ReadFile { path } => files::read(&mut connection.outgoing, path).await,
        Request::List(spec) => files::list(&mut connection.outgoing, spec).await,
        Request::Stat { path } => files::stat(&mut connection.outgoing, path).await,
        Request::Sync => {
            let done = files::sync().await;
            connection.outgoing.done(done).await
        }
        Request::Connect { port } => relay::run(agent, connection, port).await,
        Request::Process(request) => processes::answer(agent, connection, request).await,
        Request::Terminal(request) => terminals::answer(agent, connection, request).await,
        Request::Watch(spec) => watch::run(agent, connection, spec).await,
        Request::SetEnvironment(env) => {
            let done = agent.set_environment(&env);
            connection.outgoing.done(done).await
        }
        Request::Revive(revival) => {
            let done = agent.revive(revival, connection.peer);
            connection.outgoing.done(done).await
        }
        Request::Freeze { asked_unix_ns } => {
            let held = agent.freeze(asked_unix_ns).await;
            let answer = match held {
                Ok(held) => FromAgent::Held {
                    for_ns: u64::try_from(held.as_nanos()).unwrap_or(u64::MAX),
                },
                Err(error) => FromAgent::Failed(error),
            };
            connection.outgoing.send(&answer).await
        }
        Request::Thaw { unix_time_ns } => {
            let done = agent.thaw(unix_time_ns);
            connection.outgoing.done(done).await
        }
    }
}

/// The frames that come in.
pub(crate) struct Incoming {
    state: State,
}

enum State {
    Idle(Source),
    /// A frame under way. `frame::read` loses bytes when it is dropped, so it
    /// lives here and not in the future of [`Incoming::next`].
    Reading(Pin<Box<dyn Future<Output = Reading> + Send>>),
    GivenAway,
}

/// A frame, and what the next one is read from.
type Reading = (Result<ToAgent, FrameError>, Source);

struct Source {
    reader: Reader,
    buffer: Vec<u8>,
}

impl Incoming {
    fn new(reader: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        let source = Source {
            reader: BufReader::new(reader),
            buffer: Vec::new(),
        };
        Self {
            state: State::Idle(source),
        }
    }

    /// The next frame. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<ToAgent, FrameError> {
        self.state = match std::mem::replace(&mut self.state, State::GivenAway) {
            State::Idle(source) => State::Reading(Box::pin(read(source))),
            State::Reading(reading) => State::Reading(reading),
            State::GivenAway => State::GivenAway,
        };
        let State::Reading(reading) = &mut self.state else {
            return Err(FrameError::Closed);
        };
        let (frame, source) = reading.as_mut().await;
        self.state = State::Idle(source);
        frame
    }

    /// What follows the last frame, unless another one has begun.
    fn give_away(&mut self) -> Option<Reader> {
        match std::mem::replace(&mut self.state, State::GivenAway) {
            State::Idle(source) => Some(source.reader),
            State::Reading(_) | State::GivenAway => None,
        }
    }
}

async fn read(mut source: Source) -> Reading {
    source.buffer.clear();
    source.buffer.shrink_to(KEPT_BUFFER);
    let frame = frame::read(&mut source.reader, &mut source.buffer).await;
    (frame, source)
}

/// The frames that go out.
pub(crate) struct Outgoing {
    writer: Writer,
}

impl Outgoing {
    /// Sends one frame; waits while the host does not take it. Not cancel-safe:
    /// the connection must be closed then.
    pub(crate) async fn send(&mut self, message: &FromAgent) -> Result<(), Hangup> {
        Ok(frame::write(&mut self.writer, message).await?)
    }

    /// Answers a call that has nothing else to say.
    pub(crate) async fn done(&mut self, result: Result<(), GuestError>) -> Result<(), Hangup> {
        let answer = match result {
            Ok(()) => FromAgent::Done,
            Err(error) => FromAgent::Failed(error),
        };
        self.send(&answer).await
    }
}

#[cfg(test)]
mod tests;
