//! Telling a host what happens in a directory.
//!
//! ```text
//! kernel's queue ──▶ Watcher ──▶ Tree: which directory was it
//!                       └──────▶ Queue: two halves of a rename ──▶ host
//! ```
//!
//! The kernel's queue is the only buffer that fills while the host reads
//! slowly. When it overflows, everything is watched anew and the host is told
//! that something is missing.

use std::os::fd::OwnedFd;
use std::time::Instant;

use emberbox_guest::watch::CHANGES_PER_FRAME;
use emberbox_guest::{FromAgent, GuestError, GuestErrorCode, WatchEvent, WatchSpec};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep_until;

use crate::agent::Agent;
use crate::connection::{Connection, Hangup, Outgoing};
use crate::files::{blocking, failed};
use crate::sys::watch_inotify;

mod queue;
mod tree;
mod watcher;

use watcher::{News, Watcher};

/// Watches until the directory is gone or the host hangs up.
pub(crate) async fn run(
    agent: &Agent,
    connection: &mut Connection,
    spec: WatchSpec,
) -> Result<(), Hangup> {
    let Connection {
        incoming, outgoing, ..
    } = connection;
    let Ok(_place) = agent.watchers.try_acquire() else {
        let error = GuestError::new(
            GuestErrorCode::LimitReached,
            "too many directories are watched at once",
        );
        return outgoing.send(&FromAgent::Failed(error)).await;
    };
    let path = spec.path.clone();
    let opened = match blocking(move || Watcher::open(&spec)).await {
        Ok(watcher) => wakes(&watcher, &path).map(|wakes| (watcher, wakes)),
        Err(error) => Err(error),
    };
    let (mut watcher, mut wakes) = match opened {
        Ok(opened) => opened,
        Err(error) => return outgoing.send(&FromAgent::Failed(error)).await,
    };
    outgoing.send(&FromAgent::Done).await?;
    loop {
        tokio::select! {
            frame = incoming.next() => {
                frame?;
                return Err(Hangup::OutOfTurn);
            }
            ready = wakes.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
            }
            () = due(watcher.due()) => {}
        }
        // Everything that is there now; the kernel wakes us only for more.
        loop {
            let reading = move || Ok::<_, GuestError>((watcher.read(), watcher));
            let (news, next) = match blocking(reading).await {
                Ok(read) => read,
                Err(error) => return outgoing.send(&FromAgent::Failed(error)).await,
            };
            watcher = next;
            let more = match news {
                News::Events { events, more } => {
                    tell(outgoing, events).await?;
                    more
                }
                News::Over(events) => {
                    tell(outgoing, events).await?;
                    return outgoing.send(&FromAgent::End { truncated: false }).await;
                }
                News::Renewed(events) => {
                    tell(outgoing, events).await?;
                    match self::wakes(&watcher, &path) {
                        Ok(new) => wakes = new,
                        Err(error) => return outgoing.send(&FromAgent::Failed(error)).await,
                    }
                    true
                }
            };
            if !more {
                break;
            }
        }
    }
}

/// Wakes when there is something to read. It has a descriptor of its own, so
/// that the watcher can be anywhere meanwhile.
fn wakes(watcher: &Watcher, path: &str) -> Result<AsyncFd<OwnedFd>, GuestError> {
    let descriptor = watcher.descriptor();
    descriptor
        .and_then(watch_inotify)
        .map_err(|error| failed("watch", path, &error))
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn tell(outgoing: &mut Outgoing, events: Vec<WatchEvent>) -> Result<(), Hangup> {
    let mut events = events.into_iter();
    loop {
        let batch: Vec<_> = events.by_ref().take(CHANGES_PER_FRAME).collect();
        if batch.is_empty() {
            return Ok(());
        }
        outgoing.send(&FromAgent::Changes(batch)).await?;
    }
}

#[cfg(test)]
mod tests;
