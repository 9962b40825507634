//! Terminals: shells that wait for who left and comes back.
//!
//! ```text
//! open ──▶ session: one task per terminal ◀── orders ── attach, close
//!             │  pseudo-terminal ◀──▶ shell
//!             └─ viewer: the one who looks, if somebody does
//! ```
//!
//! Who looks is waited for, as a screen is; while nobody does, output goes
//! into the replay alone.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use emberbox_guest::terminal::TERMINALS;
use emberbox_guest::{
    ExitStatus, FromAgent, GuestError, GuestErrorCode, OutputStream, TerminalRequest, TerminalSize,
    TerminalSpec, ToAgent,
};
use tokio::sync::{mpsc, watch};

use crate::agent::Agent;
use crate::connection::{Connection, Hangup, Incoming, Outgoing};

mod members;
mod pty;
mod replay;
mod session;

use session::{Order, Typed, Viewer};

/// Pieces of output on their way to who looks: a few screens.
const SHOWN: usize = 16;

/// Pieces of input on their way to the terminal: typing is slow, and a paste
/// waits.
const TYPED: usize = 4;

/// Orders a terminal has not looked at yet: it looks at once.
const ORDERS: usize = 4;

/// Every open terminal.
#[derive(Default)]
pub(crate) struct Terminals {
    open: Mutex<Vec<Arc<Terminal>>>,
}

struct Terminal {
    id: u64,
    orders: mpsc::Sender<Order>,
    end: watch::Sender<Option<ExitStatus>>,
}

/// Answers a call about terminals.
pub(crate) async fn answer(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    request: TerminalRequest,
) -> Result<(), Hangup> {
    match request {
        TerminalRequest::Open(spec) => {
            let done = open(agent, &spec);
            connection.outgoing.done(done).await
        }
        TerminalRequest::Close { id } => {
            let done = close(agent, id).await;
            connection.outgoing.done(done).await
        }
        TerminalRequest::Attach { id, size } => match attach(agent, id, size).await {
            Ok(attached) => attached.run(connection).await,
            Err(error) => connection.outgoing.send(&FromAgent::Failed(error)).await,
        },
    }
}

fn open(agent: &Arc<Agent>, spec: &TerminalSpec) -> Result<(), GuestError> {
    check_size(Some(spec.size))?;
    if agent.terminals.lock().len() >= TERMINALS {
        return Err(GuestError::new(
            GuestErrorCode::LimitReached,
            format_args!("{TERMINALS} terminals are open already"),
        ));
    }
    if agent.terminals.find(spec.id).is_ok() {
        let message = "a terminal of this id is open already";
        return Err(GuestError::new(GuestErrorCode::Protocol, message));
    }
    let started = session::start(agent, spec)?;
    let (orders, mut ordered) = mpsc::channel(ORDERS);
    let terminal = Arc::new(Terminal {
        id: spec.id,
        orders,
        end: watch::Sender::new(None),
    });
    agent.terminals.lock().push(Arc::clone(&terminal));
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        let life = session::run(started, &mut ordered, || {
            // Nobody finds it any more once it has begun to end.
            agent.terminals.lock().retain(|open| open.id != terminal.id);
        });
        let (status, viewer) = life.await;
        terminal.end.send_replace(Some(status));
        // Who looks, or was about to, asks for the end when this lets go.
        drop((viewer, ordered));
    });
    Ok(())
}

async fn close(agent: &Agent, id: u64) -> Result<(), GuestError> {
    let terminal = agent.terminals.find(id)?;
    let mut end = terminal.end.subscribe();
    // Only one that ends already takes no order.
    let _ = terminal.orders.send(Order::Close).await;
    // We hold the sender.
    let _ = end.wait_for(Option::is_some).await;
    Ok(())
}

async fn attach(
    agent: &Agent,
    id: u64,
    size: Option<TerminalSize>,
) -> Result<Attached, GuestError> {
    check_size(size)?;
    let terminal = agent.terminals.find(id)?;
    let (output, shown) = mpsc::channel(SHOWN);
    let (typed, input) = mpsc::channel(TYPED);
    let viewer = Viewer { output, input };
    let order = Order::Attach(viewer, size);
    if terminal.orders.send(order).await.is_err() {
        return Err(no_such(id));
    }
    Ok(Attached {
        terminal,
        shown,
        typed,
    })
}

/// Our end of a viewer.
struct Attached {
    terminal: Arc<Terminal>,
    shown: mpsc::Receiver<Bytes>,
    typed: mpsc::Sender<Typed>,
}

impl Attached {
    async fn run(mut self, connection: &mut Connection) -> Result<(), Hangup> {
        let Connection {
            incoming, outgoing, ..
        } = connection;
        outgoing.send(&FromAgent::Done).await?;
        tokio::select! {
            shown = show(&mut self.shown, outgoing) => shown?,
            // A frame may be cut in two then.
            hangup = feed(&self.typed, incoming) => return Err(hangup),
        }
        let last = match *self.terminal.end.borrow() {
            Some(status) => FromAgent::Exited(status),
            None => FromAgent::End { truncated: false },
        };
        outgoing.send(&last).await
    }
}

/// Sends what is shown until the terminal lets go of its viewer.
async fn show(shown: &mut mpsc::Receiver<Bytes>, outgoing: &mut Outgoing) -> Result<(), Hangup> {
    while let Some(data) = shown.recv().await {
        let stream = OutputStream::Stdout;
        outgoing.send(&FromAgent::Output { stream, data }).await?;
    }
    Ok(())
}

/// Takes what is typed until the host hangs up.
async fn feed(typed: &mpsc::Sender<Typed>, incoming: &mut Incoming) -> Hangup {
    loop {
        let Ok(place) = typed.reserve().await else {
            // The terminal lets go of its viewer, which ends `show`.
            return std::future::pending().await;
        };
        match incoming.next().await {
            Ok(ToAgent::Data(data)) => place.send(Typed::Bytes(data)),
            Ok(ToAgent::Resize(size)) if size.is_sane() => place.send(Typed::Size(size)),
            Ok(ToAgent::End) => return Hangup::GivenAway,
            Ok(ToAgent::Resize(_) | ToAgent::Call { .. }) => return Hangup::OutOfTurn,
            Err(error) => return error.into(),
        }
    }
}

impl Terminals {
    fn find(&self, id: u64) -> Result<Arc<Terminal>, GuestError> {
        let open = self.lock();
        let found = open.iter().find(|terminal| terminal.id == id);
        found.cloned().ok_or_else(|| no_such(id))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Terminal>>> {
        self.open.lock().expect("no panic while the table is held")
    }
}

fn no_such(id: u64) -> GuestError {
    GuestError::new(
        GuestErrorCode::NoSuchTerminal,
        format_args!("no terminal {id:016x}"),
    )
}

fn check_size(size: Option<TerminalSize>) -> Result<(), GuestError> {
    if size.is_none_or(TerminalSize::is_sane) {
        return Ok(());
    }
    let message = "the size of a terminal is out of its bounds";
    Err(GuestError::new(GuestErrorCode::Protocol, message))
}

#[cfg(test)]
mod tests;
