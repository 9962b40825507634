//! Real microVMs on one Linux machine: the engine trait and its engines, and
//! the plumbing every engine needs.
//!
//! Decides: how a VM is started, restored, confined, connected and ended.
//! Must not know: sandboxes, tenants, the store, HTTP.
//!
//! | module | answers |
//! |---|---|
//! | [`engine`] | what every engine can do, and says it cannot |
//! | [`qemu`] | the same with QEMU |
//! | [`firecracker`] | the same with Firecracker |
//! | [`net`] | a VM's network: namespace, TAP, egress, DNS |
//! | [`jail`] | how a VMM process is confined before it runs |
//! | [`cgroup`] | how much of the machine it may take |
//! | [`disk`] | scratch disks: made, cloned, measured |
//! | [`process`] | a process that need not be our child |
//! | [`seed`] | how an identity-free memory snapshot is taken |
//! | [`probe`] | whether KVM really works here |
//! | [`conformance`] | what every engine must pass |

pub mod cgroup;
pub mod conformance;
pub mod disk;
pub mod engine;
pub mod firecracker;
pub mod jail;
pub mod net;
pub mod probe;
pub mod process;
pub mod qemu;
pub mod seed;
mod vmm;

pub use engine::{
    BootImages, BootPurpose, Capabilities, Capability, CheckpointFiles, Engine, EngineDescription,
    EngineError, ExitReason, MemoryUse, SnapshotFiles, Vm, VmPlace, VmSpec,
};
