//! The latest output of a terminal, for who comes to look.

use bytes::Bytes;
use std::collections::VecDeque;

use emberbox_guest::terminal::REPLAY_BYTES;

#[derive(Default)]
pub(super) struct Replay {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Replay {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes.extend(data);
        let surplus = self.bytes.len().saturating_sub(REPLAY_BYTES);
        self.cut |= surplus > 0;
        self.bytes.drain(..surplus);
    }

    /// What to show. Where the beginning is gone it starts with a whole line,
    /// so that it does not start within an escape sequence or a character.
    pub(super) fn show(&self) -> Bytes {
        let from = if self.cut {
            let end = self.bytes.iter().position(|byte| *byte == b'\n');
            end.map_or(0, |end| end + 1)
        } else {
            0
        };
        self.bytes.range(from..).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_replay_begins_with_a_line() {
        let mut replay = Replay::default();
        assert!(replay.show().is_empty());
        replay.push(b"first\nsecond");
        assert_eq!(&replay.show()[..], b"first\nsecond");
        replay.push(&vec![b'x'; REPLAY_BYTES - 5]);
        replay.push(b"\nlast");
        assert_eq!(&replay.show()[..], b"last");
        replay.push(&vec![b'y'; 3 * REPLAY_BYTES]);
        assert_eq!(replay.show().len(), REPLAY_BYTES);
    }
}
