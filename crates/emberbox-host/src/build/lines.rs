//! Output of a command, cut into lines.

/// Longest line in bytes; what is longer goes on in the next.
const MAX_LINE: usize = 8 * 1024;

/// Most bytes that are told of one command: a step that says more says the
/// same again, and all of it is stored.
const MAX_OUTPUT: usize = 4 << 20;

/// The lines of one command's output, both streams together.
#[derive(Debug, Default)]
pub(super) struct Lines {
    told: usize,
}

/// One stream of it.
#[derive(Debug, Default)]
pub(super) struct Stream(Vec<u8>);

impl Lines {
    /// The lines that `bytes` complete.
    pub(super) fn push(&mut self, stream: &mut Stream, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                stream.0.push(*byte);
            }
            if *byte == b'\n' || stream.0.len() >= MAX_LINE {
                self.end_line(stream, &mut lines);
            }
        }
        lines
    }

    /// What has no end of line.
    pub(super) fn rest(&mut self, stream: &mut Stream) -> Vec<String> {
        let mut lines = Vec::new();
        if !stream.0.is_empty() {
            self.end_line(stream, &mut lines);
        }
        lines
    }

    fn end_line(&mut self, stream: &mut Stream, lines: &mut Vec<String>) {
        let before = self.told;
        self.told += stream.0.len() + 1;
        if self.told <= MAX_OUTPUT {
            let line = String::from_utf8_lossy(&stream.0);
            lines.push(line.trim_end_matches('\r').to_owned());
        } else if before <= MAX_OUTPUT {
            lines.push("(more output is not shown)".to_owned());
        }
        stream.0.clear();
    }
}

#[cfg(test)]
mod tests;
