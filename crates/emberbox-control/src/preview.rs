//! Previews: what listens in a sandbox, at an address of its own.
//!
//! Decides: which host names are previews, who may see them, what of a
//! request and its answer passes.
//! Must not know: how a guest is reached ([`Compute`](crate::Compute) dials).
//!
//! ```text
//! Host ──▶ name ──▶ sandbox ──▶ access ──▶ port ──▶ connection ──▶ guest
//!   │ not a preview                │ no
//!   ▼                              ▼
//!  API                         an answer of ours
//! ```
//!
//! Invariants: connections are kept per life of a VM and port, never per
//! address; nothing is connected before access is decided; an answer that
//! broke off in the guest never ends cleanly.

mod access;
mod address;
mod connection;
mod forward;
mod header;
mod heard;
pub(crate) mod host;
mod page;
mod route;
pub(crate) mod shown;
mod upgrade;

pub(crate) use forward::Forwarder;
pub(crate) use route::by_host;
