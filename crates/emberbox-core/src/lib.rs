//! The decisions of Emberbox that need no machine: identifiers, shapes and
//! their limits, and the sandbox lifecycle.
//!
//! Decides: which values are legal and which state follows which event.
//! Must not know: IO, the clock, async, HTTP, engines.
//!
//! Everything here is total and deterministic, so it is tested as tables.

pub mod id;
pub mod lifecycle;
pub mod limits;
pub mod shape;

pub use id::{
    ApiKeyId, DeploymentId, PreviewId, SandboxId, ShareId, SnapshotId, TenantId, UserId, VmId,
};
pub use lifecycle::{Command, Denied, Event, Fact, SandboxState, Step, step};
pub use limits::Limits;
pub use shape::{Shape, SizeTier};
