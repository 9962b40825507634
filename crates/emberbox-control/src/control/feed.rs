//! What commands wrote lately, for whoever follows a sandbox's events.
//!
//! A bounded ring per sandbox: a writer never waits, a reader that falls
//! behind loses the oldest pieces. It lives as long as the sandbox and this
//! process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use emberbox_core::SandboxId;
use emberbox_guest::OutputStream;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::text::Decoder;

/// Bytes of text kept per sandbox: a few screens of output for a reader that
/// comes back, little beside the sandbox's own memory.
const KEPT_BYTES: usize = 256 * 1024;

/// Pieces kept per sandbox: tiny ones cost more than their text.
const KEPT_PIECES: usize = 1024;

/// The feeds of all sandboxes.
#[derive(Default)]
pub(super) struct Feeds(Mutex<HashMap<SandboxId, Arc<Feed>>>);

/// One sandbox's feed.
#[derive(Default)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    /// The number of the newest piece.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
}

/// Some output of one command.
pub(crate) struct Piece {
    /// Grows from piece to piece, also across restarts of the server.
    pub(crate) number: u64,
    /// Which command.
    pub(crate) exec_id: Arc<str>,
    /// Which output.
    pub(crate) stream: OutputStream,
    /// The text.
    pub(crate) data: String,
    /// When it was seen.
    pub(crate) at: Timestamp,
}

/// One command's way into a feed.
pub(crate) struct Source {
    feed: Arc<Feed>,
    exec_id: Arc<str>,
    stdout: Decoder,
    stderr: Decoder,
}

impl Feeds {
    /// The feed of a sandbox, made if there is none.
    pub(super) fn of(&self, id: &SandboxId) -> Arc<Feed> {
        let mut feeds = self.lock();
        Arc::clone(feeds.entry(id.clone()).or_default())
    }

    /// The sandbox runs no more commands. Who still reads keeps what is there.
    pub(super) fn forget(&self, id: &SandboxId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Feed>>> {
        self.0.lock().expect("no panic while the map is held")
    }
}

impl Feed {
    /// A way in for one command.
    pub(super) fn source(self: Arc<Self>) -> Source {
        let ulid = ulid::Ulid::generate().to_string().to_ascii_lowercase();
        Source {
            feed: self,
            exec_id: format!("exec_{ulid}").into(),
            stdout: Decoder::default(),
            stderr: Decoder::default(),
        }
    }

    /// Tells of new pieces.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The pieces after `number` that are still there.
    pub(crate) fn after(&self, number: u64) -> Vec<Arc<Piece>> {
        let ring = self.lock();
        let begin = ring.pieces.partition_point(|piece| piece.number <= number);
        ring.pieces.range(begin..).map(Arc::clone).collect()
    }

    /// The number of the newest piece.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    fn push(&self, exec_id: &Arc<str>, stream: OutputStream, data: String) {
        if data.is_empty() {
            return;
        }
        let at = Timestamp::now();
        let mut ring = self.lock();
        // The clock keeps numbers growing over a restart; it may stand still
        // or be set back in between.
        let now = u64::try_from(at.as_microsecond()).unwrap_or(0);
        let number = now.max(self.newest() + 1);
        ring.bytes += data.len();
        ring.pieces.push_back(Arc::new(Piece {
            number,
            exec_id: Arc::clone(exec_id),
            stream,
            data,
            at,
        }));
        while ring.pieces.len() > 1 && (ring.pieces.len() > KEPT_PIECES || ring.bytes > KEPT_BYTES)
        {
            let oldest = ring.pieces.pop_front();
            ring.bytes -= oldest.map_or(0, |piece| piece.data.len());
        }
        self.newest.send_replace(number);
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no panic while the ring is held")
    }
}

impl Source {
    /// The command wrote this.
    pub(super) fn write(&mut self, stream: OutputStream, data: &[u8]) {
        let text = match stream {
            OutputStream::Stdout => self.stdout.push(data),
            OutputStream::Stderr => self.stderr.push(data),
        };
        self.feed.push(&self.exec_id, stream, text);
    }

    /// The command writes no more.
    pub(super) fn finish(&mut self) {
        for (stream, decoder) in [
            (OutputStream::Stdout, &mut self.stdout),
            (OutputStream::Stderr, &mut self.stderr),
        ] {
            self.feed.push(&self.exec_id, stream, decoder.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_falls_behind_loses_the_oldest() {
        let feeds = Feeds::default();
        let id = SandboxId::generate();
        let feed = feeds.of(&id);
        let mut source = Arc::clone(&feed).source();
        source.write(OutputStream::Stdout, b"first");
        let first = feed.after(0);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].data, "first");
        for _ in 0..2 * KEPT_PIECES {
            source.write(OutputStream::Stderr, b"more");
        }
        let kept = feed.after(first[0].number);
        assert_eq!(kept.len(), KEPT_PIECES);
        assert!(kept.windows(2).all(|pair| pair[0].number < pair[1].number));
        source.write(OutputStream::Stdout, &vec![b'x'; 2 * KEPT_BYTES]);
        assert_eq!(feed.after(0).len(), 1);
        assert!(Arc::ptr_eq(&feed, &feeds.of(&id)));
        feeds.forget(&id);
        assert!(feeds.of(&id).after(0).is_empty());
    }
}
