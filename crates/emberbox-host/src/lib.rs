//! One compute host: an actor per VM, seeds, and the ledger of everything it
//! owns.
//!
//! Decides: from which seed a VM comes, what is adopted and what reaped.
//! Must not know: the store, tenants, HTTP.
//!
//! | module | answers |
//! |---|---|
//! | [`host`] | what may be asked of a host |
//! | [`build`] | how an image is built |
//! | `artifacts` | what is published, and fetched before it is booted |
//! | [`config`] | how it is set up, and which engine it gets |
//! | `last_use` | what the networks of ended VMs carried |
//! | `ledger` | what it owns, so that it is found after a crash |
//! | `secret` | what it can prove about itself after a restart |
//! | `seeds` | which seeds there are, and how new ones come |
//! | `snapshots` | which snapshots of sandboxes there are, and if one is whole |
//! | `capacity` | whether there is room for more |
//! | `turns` | how many VMs come up at a time |
//! | `pool` | which VMs are restored before anybody asks |
//! | `standby` | which VMMs wait for something to restore |
//! | `timeline` | where the time went |
//! | `actor` | the life of one VM |
//!
//! Invariants: a VM's record exists before anything of it and goes last; one
//! task owns each VM; a guest is given its identity exactly once per life.

mod actor;
mod artifacts;
pub mod build;
mod capacity;
pub mod config;
pub mod host;
mod last_use;
mod ledger;
mod pool;
mod secret;
mod seeds;
mod snapshots;
mod standby;
mod timeline;
mod turns;

pub use artifacts::{ArtifactsConfig, SourceConfig};
pub use build::{
    BuildEvent, BuildFailure, BuildRequest, BuiltImage, RegistryAccess, RegistryCredentials,
};
pub use config::{
    AcceleratorChoice, EngineChoice, EngineKind, FirecrackerChoice, HostConfig, JailerChoice,
    PoolConfig, ProbeDeadline,
};
pub use host::{
    AfterSnapshot, BootPath, CreateVm, Created, Host, HostError, HostEvent, HostFacts, Keep,
    Origin, ResourceUse, Snapshotted,
};
pub use pool::{Lease, PoolFacts};
pub use timeline::{Step, Timeline};
