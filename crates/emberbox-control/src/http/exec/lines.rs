//! Lines out of a byte stream.

use crate::text::whole_characters;

/// Longest line in bytes; a longer one arrives in pieces. As large as the
/// largest piece the guest sends, so one write that fits is never cut.
const LINE_MAX: usize = 64 * 1024;

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Line {
    /// Without its `\n`; a `\r` before that is part of the text, so that who
    /// writes lines out again writes what the process wrote.
    pub(in crate::http) text: String,
    /// Whether a `\n` ended it.
    pub(in crate::http) newline: bool,
}

/// Cuts what a process writes into lines; bytes that are not UTF-8 are
/// replaced.
#[derive(Default)]
pub(in crate::http) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// The lines that are complete now.
    pub(in crate::http) fn push(&mut self, data: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.ends_with(b"\n") {
                let text = self.take(self.partial.len() - 1);
                self.partial.clear();
                lines.push(Line {
                    text,
                    newline: true,
                });
            }
            while self.partial.len() > LINE_MAX {
                let end = whole_characters(&self.partial[..LINE_MAX]);
                lines.push(Line {
                    text: self.take(end),
                    newline: false,
                });
            }
        }
        lines
    }

    /// Whether there is a line without an end.
    pub(in crate::http) fn is_open(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The last line, if it has no end.
    pub(in crate::http) fn rest(&mut self) -> Option<Line> {
        (!self.partial.is_empty()).then(|| Line {
            text: self.take(self.partial.len()),
            newline: false,
        })
    }

    fn take(&mut self, length: usize) -> String {
        let text = String::from_utf8_lossy(&self.partial[..length]).into_owned();
        self.partial.drain(..length);
        text
    }
}

#[cfg(test)]
mod tests;
