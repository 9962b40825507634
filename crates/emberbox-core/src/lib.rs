//! The decisions of Emberbox that need no machine: identifiers, shapes and
//! their limits, what a key may do, the lifecycles of a sandbox and of a
//! template's build, what a build spec may say, and what running costs.
//!
//! Decides: which values are legal and which state follows which event.
//! Must not know: IO, the clock, async, HTTP, engines.
//!
//! Everything here is total and deterministic, so it is tested as tables.

pub mod app;
pub mod billing;
pub mod build;
pub mod build_spec;
pub mod id;
pub mod lifecycle;
pub mod limits;
pub mod scope;
pub mod shape;

pub use billing::{Carry, Prices, Quantity};
pub use build::{Advance, BuildChange, BuildErrorCode, BuildState};
pub use build_spec::{BuildLimits, BuildSpec, BuildStep, SpecError, SpecErrorCode};
pub use id::{
    ApiKeyId, BatchId, BuildId, DeploymentId, PreviewId, SandboxId, ShareId, SnapshotId,
    TemplateId, TenantId, UserId, VmId,
};
pub use lifecycle::{Command, Denied, Event, Fact, SandboxState, Step, step};
pub use limits::{Limits, TenantLimits};
pub use scope::{Scope, Scopes, UnknownScope};
pub use shape::{Shape, SizeTier};
