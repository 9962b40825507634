//! Whether a sandbox takes work (`client-contract.md`, section 4.2).

use emberbox_core::{SandboxId, SandboxState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What `GET …/readiness` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Which sandbox.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its state.
    #[schema(value_type = String)]
    pub state: SandboxState,
    /// Whether it takes work.
    pub ready: bool,
    /// The same as a word.
    pub status: ReadinessStatus,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ready_at: Option<Time>,
    /// The parts that later clients look at.
    pub readiness: ReadinessDetail,
}

/// Ready or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadinessStatus {
    /// Takes work.
    Ready,
    /// Not yet, or not any more.
    Pending,
}

/// Readiness by component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadinessDetail {
    /// The whole.
    pub status: ReadinessStatus,
    /// The parts. A sandbox becomes ready as one: the guest's claim answers
    /// only when all of them are in force.
    pub components: Components,
}

/// The components later clients look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Components {
    /// Exec.
    pub command_agent: Component,
    /// Process groups and signals.
    pub process_control: Component,
    /// CPU, memory and disk as asked for.
    pub resource_contract: Component,
    /// Wall clock.
    pub clock: Component,
    /// Host name, machine id, token.
    pub identity: Component,
    /// The sandbox's record.
    pub durability: Component,
    /// Root file system and scratch disk.
    pub filesystem: Component,
    /// The host's own probe of the guest.
    pub internal_probe: Component,
}

/// One component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Whether it is ready.
    pub status: ReadinessStatus,
}

impl Components {
    /// Every component in the same status.
    #[must_use]
    pub fn all(status: ReadinessStatus) -> Self {
        let component = Component { status };
        Self {
            command_agent: component,
            process_control: component,
            resource_contract: component,
            clock: component,
            identity: component,
            durability: component,
            filesystem: component,
            internal_probe: component,
        }
    }
}
