//! Terminals: a shell on a pseudo-terminal that outlives the connections of
//! those who look at it.

use serde::{Deserialize, Serialize};

/// Most terminals at a time.
pub const TERMINALS: usize = 16;

/// Most of its latest output that a terminal shows to who attaches: several
/// full screens with their colours.
pub const REPLAY_BYTES: usize = 64 * 1024;

/// Most columns and rows: wider than any screen, and programs that allocate a
/// cell for each stay small.
pub const SIDE_MAX: u16 = 1000;

/// A call about terminals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminalRequest {
    /// Starts a shell on a new terminal. Answers
    /// [`FromAgent::Done`](crate::FromAgent::Done).
    Open(TerminalSpec),
    /// Looks at a terminal, in place of who did before:
    /// [`FromAgent::Done`](crate::FromAgent::Done), then
    /// [`FromAgent::Output`](crate::FromAgent::Output), first of what was
    /// written before, until its shell has
    /// [`FromAgent::Exited`](crate::FromAgent::Exited) or somebody else looks
    /// at it ([`FromAgent::End`](crate::FromAgent::End)). Meanwhile
    /// [`ToAgent::Data`](crate::ToAgent::Data) is what is typed and
    /// [`ToAgent::Resize`](crate::ToAgent::Resize) changes the size;
    /// [`ToAgent::End`](crate::ToAgent::End) or closing the connection leaves
    /// the terminal running, for a while.
    Attach {
        /// Which one.
        id: u64,
        /// The size of who looks; as it is when absent.
        size: Option<TerminalSize>,
    },
    /// Ends a terminal and everything in its session. Answers
    /// [`FromAgent::Done`](crate::FromAgent::Done).
    Close {
        /// Which one.
        id: u64,
    },
}

/// A terminal to open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSpec {
    /// Its name from here on, chosen by the host.
    pub id: u64,
    /// Its size.
    pub size: TerminalSize,
    /// What to run, by `bash -c`; a login bash (or sh) when absent.
    pub shell: Option<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// Variables of this terminal only; they win over the sandbox's own.
    pub env: Vec<(String, String)>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Width, 1 to [`SIDE_MAX`].
    pub cols: u16,
    /// Height, 1 to [`SIDE_MAX`].
    pub rows: u16,
}

impl Default for TerminalSize {
    /// The classic one.
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

impl TerminalSize {
    /// Whether both sides are within their bounds.
    #[must_use]
    pub fn is_sane(self) -> bool {
        (1..=SIDE_MAX).contains(&self.cols) && (1..=SIDE_MAX).contains(&self.rows)
    }
}
