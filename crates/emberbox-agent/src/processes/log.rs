//! The newest output of a process, both streams in the order they were read.

use std::collections::VecDeque;

use bytes::Bytes;
use emberbox_guest::OutputStream;
use emberbox_guest::message::CHUNK;
use emberbox_guest::process::LOG_BYTES;

/// Most changes between the streams that are kept. They cost some 16 bytes
/// each, so that a process that changes at every byte costs no more than one
/// that does not.
const SEGMENTS: usize = 32 * 1024;

/// A ring of bytes that knows which stream each came from.
#[derive(Default)]
pub(super) struct Log {
    bytes: VecDeque<u8>,
    /// The offset of the first byte that is kept.
    start: u64,
    /// Where each run of one stream begins; the first at or before `start`.
    segments: VecDeque<Segment>,
}

#[derive(Clone, Copy)]
struct Segment {
    offset: u64,
    stream: OutputStream,
}

/// Some output.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) stream: OutputStream,
    pub(super) data: Bytes,
}

impl Log {
    /// The offset of the next byte that is written.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Adds output, and forgets the oldest if there is too much.
    pub(super) fn append(&mut self, stream: OutputStream, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.segments.back().map(|last| last.stream) != Some(stream) {
            let offset = self.end();
            self.segments.push_back(Segment { offset, stream });
        }
        self.bytes.extend(data);
        let surplus = self.bytes.len().saturating_sub(LOG_BYTES) as u64;
        self.forget_before(self.start + surplus);
        if self.segments.len() > SEGMENTS {
            self.forget_before(self.segments[1].offset);
        }
    }

    /// The first piece at `from` or later.
    pub(super) fn read(&self, from: u64) -> Option<Piece> {
        let offset = from.max(self.start);
        if offset >= self.end() {
            return None;
        }
        let after = self
            .segments
            .partition_point(|segment| segment.offset <= offset);
        // The first segment begins at or before the first byte.
        let stream = self.segments[after - 1].stream;
        let end = self
            .segments
            .get(after)
            .map_or(self.end(), |next| next.offset);
        // The ring is at most LOG_BYTES long, so both fit.
        let first = (offset - self.start) as usize;
        let length = ((end - offset) as usize).min(CHUNK);
        let data = self.bytes.range(first..first + length).copied().collect();
        Some(Piece {
            offset,
            stream,
            data,
        })
    }

    /// Gives back what an ended process does not need.
    pub(super) fn seal(&mut self) {
        self.bytes.shrink_to_fit();
        self.segments.shrink_to_fit();
    }

    fn forget_before(&mut self, start: u64) {
        let surplus = (start - self.start) as usize;
        self.bytes.drain(..surplus);
        self.start = start;
        while self.segments.get(1).is_some_and(|s| s.offset <= start) {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
