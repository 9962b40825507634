//! What the control plane asks of whoever runs VMs.
//!
//! The one in this process is an `Arc` of [`Host`]; a host across the network and the one
//! of the tests answer the same calls.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use emberbox_core::{Shape, SnapshotId, VmId};
use emberbox_guest::client::GuestClient;
use emberbox_host::{
    AfterSnapshot, BuildFailure, BuildRequest, BuiltImage, CreateVm, Created, Host, HostError,
    Lease, Origin, PoolFacts, ResourceUse, Snapshotted,
};
use emberbox_runtime::net::NetworkUse;
use tokio::net::TcpStream;

/// Runs VMs. The contracts are those of [`Host`]'s calls of the same name.
#[async_trait]
pub trait Compute: Send + Sync + 'static {
    /// Whether an image of this name can be booted now.
    fn has_image(&self, image: &str) -> bool;

    /// Whether a VM of this shape could be made now. Cheap, and asked before
    /// anything of a sandbox is recorded.
    fn has_room(&self, shape: Shape, origin: &Origin) -> Result<(), HostError>;

    /// A prepared VM for a create that is about to be recorded, if there is one.
    fn lease(&self, image: &str, shape: Shape) -> Option<Lease>;

    /// What is prepared, and how that went.
    fn pool(&self) -> PoolFacts;

    /// Makes a VM and claims it, or claims the prepared one.
    async fn create(&self, request: CreateVm) -> Result<Created, HostError>;

    /// Typed calls into a running guest.
    fn guest(&self, vm: &VmId) -> Result<GuestClient, HostError>;

    /// Connects to a port of a running guest, never to its agent's.
    async fn dial(&self, vm: &VmId, port: u16) -> io::Result<TcpStream>;

    /// Writes a snapshot of a running VM.
    async fn snapshot(
        &self,
        vm: &VmId,
        snapshot: &SnapshotId,
        after: AfterSnapshot,
    ) -> Result<Snapshotted, HostError>;

    /// Removes a snapshot. Idempotent.
    async fn delete_snapshot(&self, snapshot: &SnapshotId) -> Result<(), HostError>;

    /// The snapshots that are complete.
    fn snapshots(&self) -> Result<Vec<SnapshotId>, HostError>;

    /// Ends a VM and everything it owns. Idempotent.
    async fn destroy(&self, vm: &VmId) -> Result<(), HostError>;

    /// The VMs that are claimed and run.
    fn running(&self) -> Vec<VmId>;

    /// What went through a VM's network since its start. Of a VM that has
    /// ended, the last there was, for a while.
    async fn network_use(&self, vm: &VmId) -> Result<NetworkUse, HostError>;

    /// What a running VM takes of its machine.
    async fn resource_use(&self, vm: &VmId) -> Result<ResourceUse, HostError>;

    /// Builds an image.
    async fn build(&self, request: BuildRequest) -> Result<BuiltImage, BuildFailure>;

    /// Removes an image. Idempotent.
    async fn remove_image(&self, image: &str) -> Result<(), HostError>;
}

#[async_trait]
impl Compute for Arc<Host> {
    fn has_image(&self, image: &str) -> bool {
        Host::has_image(self, image)
    }

    fn has_room(&self, shape: Shape, origin: &Origin) -> Result<(), HostError> {
        Host::has_room(self, shape, origin)
    }

    fn lease(&self, image: &str, shape: Shape) -> Option<Lease> {
        Host::lease(self, image, shape)
    }

    fn pool(&self) -> PoolFacts {
        self.facts().pool
    }

    async fn create(&self, request: CreateVm) -> Result<Created, HostError> {
        Host::create(self, request).await
    }

    fn guest(&self, vm: &VmId) -> Result<GuestClient, HostError> {
        Host::guest(self, vm)
    }

    async fn dial(&self, vm: &VmId, port: u16) -> io::Result<TcpStream> {
        Host::dial(self, vm, port).await
    }

    async fn snapshot(
        &self,
        vm: &VmId,
        snapshot: &SnapshotId,
        after: AfterSnapshot,
    ) -> Result<Snapshotted, HostError> {
        Host::snapshot(self, vm, snapshot, after).await
    }

    async fn delete_snapshot(&self, snapshot: &SnapshotId) -> Result<(), HostError> {
        Host::delete_snapshot(self, snapshot).await
    }

    fn snapshots(&self) -> Result<Vec<SnapshotId>, HostError> {
        Host::snapshots(self)
    }

    async fn destroy(&self, vm: &VmId) -> Result<(), HostError> {
        Host::destroy(self, vm).await
    }

    fn running(&self) -> Vec<VmId> {
        Host::running(self)
    }

    async fn network_use(&self, vm: &VmId) -> Result<NetworkUse, HostError> {
        Host::network_use(self, vm).await
    }

    async fn resource_use(&self, vm: &VmId) -> Result<ResourceUse, HostError> {
        Host::resource_use(self, vm).await
    }

    async fn build(&self, request: BuildRequest) -> Result<BuiltImage, BuildFailure> {
        Host::build(self, request).await
    }

    async fn remove_image(&self, image: &str) -> Result<(), HostError> {
        Host::remove_image(self, image).await
    }
}
