//! The public interface over real connections. The host is a fake at its
//! lowest edge: each of its "VMs" is the real guest agent, serving the real
//! protocol on a loopback port of this machine.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod apps;
mod batches;
mod builds;
mod capacity;
mod catalogue;
mod code;
mod commands;
mod contract;
mod deployments;
mod env;
mod exports;
mod files;
mod history;
mod lifecycle;
mod once;
mod previews;
mod processes;
mod rig;
mod sandboxes;
mod snapshots;
mod streams;
mod system;
mod templates;
mod tenancy;
mod tenant_events;
mod terminal;
mod usage;
mod watch;
mod work;
