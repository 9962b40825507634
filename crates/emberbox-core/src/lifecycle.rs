//! The sandbox lifecycle as one pure, total function.
//!
//! ```text
//! provisioning ──ready──▶ running ──paused──▶ paused ──ready──▶ running
//!      │                     │                   │
//!      └───────destroy───────┴─────destroy───────┴──▶ destroyed
//!      └──────failed/exited──┴──▶ error ──destroy──▶ destroyed
//! ```
//!
//! Facts outrank commands: what has happened is recorded whatever was asked
//! for meanwhile. Invariant: nothing leaves `destroyed`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The public state of a sandbox (`reference.txt`, "Lifecycle States").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxState {
    /// The VM is being made; exec and files are not available yet.
    Provisioning,
    /// The VM is reachable; every operation is allowed.
    Running,
    /// The VM's memory is on disk.
    Paused,
    /// Terminal: the VM is gone and usage is settled.
    Destroyed,
    /// Terminal failure; may only be destroyed.
    Error,
}

impl SandboxState {
    /// Every state, in the order of the reference's table.
    pub const ALL: [Self; 5] = [
        Self::Provisioning,
        Self::Running,
        Self::Paused,
        Self::Destroyed,
        Self::Error,
    ];

    /// The public name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Destroyed => "destroyed",
            Self::Error => "error",
        }
    }

    /// Whether a sandbox in this state counts against the tenant's limit.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Provisioning | Self::Running | Self::Paused => true,
            Self::Destroyed | Self::Error => false,
        }
    }
}

impl fmt::Display for SandboxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A state name nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown state; one of provisioning, running, paused, destroyed, error")]
pub struct UnknownState;

impl FromStr for SandboxState {
    type Err = UnknownState;

    /// Also takes `creating`, the later clients' word for `provisioning`.
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        if text == "creating" {
            return Ok(Self::Provisioning);
        }
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownState)
    }
}

/// Something somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// End the sandbox.
    Destroy,
    /// Put its memory on disk.
    Pause,
    /// Bring it back from disk.
    Resume,
}

/// Something that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The guest was claimed and answers.
    Ready,
    /// The memory is on disk and the VM process is gone.
    Paused,
    /// The VM ended, or could not be made, and nobody had asked for it.
    Failed,
    /// The VM and all it owned are gone because somebody asked for it.
    Destroyed,
}

/// A command or a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something somebody wants.
    Command(Command),
    /// Something that has happened.
    Fact(Fact),
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox is {0}")]
pub struct Denied(pub SandboxState);

/// What an event means in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The state becomes this one.
    To(SandboxState),
    /// The command may be carried out; its fact will change the state.
    Carry(Command),
    /// Already so; nothing to do.
    Ignore,
    /// Not in this state.
    Deny(Denied),
}

/// Decides what `event` means in `state`. Total: every pair has an answer.
#[must_use]
pub fn step(state: SandboxState, event: Event) -> Step {
    match event {
        Event::Command(command) => admit(state, command),
        Event::Fact(fact) => record(state, fact),
    }
}

fn admit(state: SandboxState, command: Command) -> Step {
    use SandboxState as S;
    match (command, state) {
        (Command::Destroy, S::Destroyed)
        | (Command::Pause, S::Paused)
        | (Command::Resume, S::Running) => Step::Ignore,
        (Command::Destroy, S::Provisioning | S::Running | S::Paused | S::Error)
        | (Command::Pause, S::Running)
        | (Command::Resume, S::Paused) => Step::Carry(command),
        (Command::Pause, S::Provisioning | S::Destroyed | S::Error)
        | (Command::Resume, S::Provisioning | S::Destroyed | S::Error) => Step::Deny(Denied(state)),
    }
}

fn record(state: SandboxState, fact: Fact) -> Step {
    use SandboxState as S;
    match (fact, state) {
        (Fact::Destroyed, S::Destroyed) | (Fact::Failed, S::Destroyed | S::Error) => Step::Ignore,
        (Fact::Destroyed, S::Provisioning | S::Running | S::Paused | S::Error) => {
            Step::To(S::Destroyed)
        }
        (Fact::Failed, S::Provisioning | S::Running | S::Paused) => Step::To(S::Error),
        (Fact::Ready, S::Provisioning | S::Paused) => Step::To(S::Running),
        (Fact::Paused, S::Running) => Step::To(S::Paused),
        // A late echo of a life that is over changes nothing.
        (Fact::Ready, S::Running | S::Destroyed | S::Error)
        | (Fact::Paused, S::Provisioning | S::Paused | S::Destroyed | S::Error) => Step::Ignore,
    }
}

#[cfg(test)]
mod tests;
