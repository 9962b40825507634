//! What the control plane asks of whoever runs VMs.
//!
//! The one in this process is an `Arc` of [`Host`]; a host across the network and the one
//! of the tests answer the same calls.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use emberbox_core::VmId;
use emberbox_guest::client::GuestClient;
use emberbox_host::{CreateVm, Created, Host, HostError};
use tokio::net::TcpStream;

/// Runs VMs. The contracts are those of [`Host`]'s calls of the same name.
#[async_trait]
pub trait Compute: Send + Sync + 'static {
    /// Whether an image of this name can be booted now.
    fn has_image(&self, image: &str) -> bool;

    /// Makes a VM and claims it.
    async fn create(&self, request: CreateVm) -> Result<Created, HostError>;

    /// Typed calls into a running guest.
    fn guest(&self, vm: &VmId) -> Result<GuestClient, HostError>;

    /// Connects to a port of a running guest, never to its agent's.
    async fn dial(&self, vm: &VmId, port: u16) -> io::Result<TcpStream>;

    /// Ends a VM and everything it owns. Idempotent.
    async fn destroy(&self, vm: &VmId) -> Result<(), HostError>;

    /// The VMs that are claimed and run.
    fn running(&self) -> Vec<VmId>;
}

#[async_trait]
impl Compute for Arc<Host> {
    fn has_image(&self, image: &str) -> bool {
        Host::has_image(self, image)
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

    async fn destroy(&self, vm: &VmId) -> Result<(), HostError> {
        Host::destroy(self, vm).await
    }

    fn running(&self) -> Vec<VmId> {
        Host::running(self)
    }
}
