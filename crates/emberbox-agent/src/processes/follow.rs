//! Telling a connection what a process writes.

use std::sync::Arc;

use emberbox_guest::{FromAgent, GuestError, GuestErrorCode};
use tokio::sync::SemaphorePermit;

use super::Process;
use super::log::Piece;
use crate::agent::Agent;
use crate::connection::{Connection, Hangup};

/// Somebody who reads a log.
pub(super) struct Follower<'a> {
    process: Arc<Process>,
    _place: SemaphorePermit<'a>,
}

/// Begins to read the log of a process.
pub(super) fn open(agent: &Agent, pid: u32) -> Result<Follower<'_>, GuestError> {
    let process = agent.processes.find(pid)?;
    let place = agent.processes.followers.try_acquire().map_err(|_full| {
        GuestError::new(
            GuestErrorCode::LimitReached,
            "too many readers of process output at once",
        )
    })?;
    Ok(Follower {
        process,
        _place: place,
    })
}

impl Follower<'_> {
    /// Sends what is kept from `from` on and, if `live`, all that comes.
    pub(super) async fn run(
        self,
        connection: &mut Connection,
        mut from: u64,
        live: bool,
    ) -> Result<(), Hangup> {
        let Connection {
            incoming, outgoing, ..
        } = connection;
        outgoing.send(&FromAgent::Done).await?;
        // Without this, who writes faster than it is read here has no end.
        let until = if live {
            u64::MAX
        } else {
            self.process.log().end()
        };
        let mut changes = self.process.end.subscribe();
        loop {
            // Seen before the log is read: at the end nothing more is written.
            let end = *changes.borrow_and_update();
            let piece = self.process.log().read(from);
            if let Some(piece) = piece.filter(|piece| piece.offset < until) {
                let Piece {
                    offset,
                    stream,
                    data,
                } = piece;
                from = offset + data.len() as u64;
                let message = FromAgent::Log {
                    offset,
                    stream,
                    data,
                };
                outgoing.send(&message).await?;
                continue;
            }
            if !live {
                return outgoing.send(&FromAgent::End { truncated: false }).await;
            }
            if let Some(end) = end {
                return outgoing.send(&FromAgent::Exited(end.status)).await;
            }
            tokio::select! {
                // The process holds the sender, and we hold the process.
                _ = changes.changed() => {}
                frame = incoming.next() => {
                    frame?;
                    return Err(Hangup::OutOfTurn);
                }
            }
        }
    }
}
