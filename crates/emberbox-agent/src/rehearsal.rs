//! Going through a claim and a command before either comes.
//!
//! What a restored guest does for the first time takes many times longer than
//! the second time: pages are copied, and in software emulation every
//! instruction is translated. A guest that waits for its sandbox has the time
//! for it. Nothing this leaves behind tells one guest from another.

use std::sync::Arc;

use emberbox_guest::{GuestError, GuestErrorCode, Rehearsal};

use crate::agent::Agent;
use crate::{identity, seed};

/// Does both once.
pub(crate) async fn run(agent: &Arc<Agent>, rehearsal: &Rehearsal) -> Result<(), GuestError> {
    identity::rehearse(&agent.system, rehearsal)?;
    match seed::run(agent, "true").await {
        // Where there is no shell, no command will come.
        Err(error) if error.code == GuestErrorCode::Spawn => Ok(()),
        ran => ran,
    }
}

#[cfg(test)]
mod tests;
