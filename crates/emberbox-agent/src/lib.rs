//! The agent inside a guest: pid 1, and the server the host talks to.
//!
//! Decides: how a guest boots, takes its identity, runs commands and touches
//! files. Must not know: the host, sandboxes, anything but `emberbox_guest`.
//!
//! ```text
//! kernel ── /init ── boot ──▶ pid 1: reaps orphans, ends the VM with the server
//!                      └────▶ server: Agent::serve, one task per connection
//! ```
//!
//! Invariants: pid 1 never exits; no user code runs before the claim; a call
//! whose connection closes leaves neither its process group nor a temporary
//! file behind, but background processes and terminals, which are nobody's;
//! no descriptor of the agent reaches a command.
//!
//! `unsafe` lives in `sys` and `exec::spawn` only.

mod agent;
pub mod boot;
mod connection;
mod exec;
mod export;
mod files;
mod freezer;
mod identity;
mod processes;
mod rehearsal;
mod relay;
mod seed;
mod stale;
mod sys;
mod system;
mod terminals;
#[cfg(test)]
mod testing;
mod watch;

pub use agent::Agent;
pub use system::{Machine, System};
