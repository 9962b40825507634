//! The VM that runs one step.
//!
//! Invariant: its record is written before anything of it is, and goes last;
//! it is never recorded as claimed, so a start after a crash removes it.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use emberbox_core::VmId;
use emberbox_guest::client::{ClientError, GuestClient};
use emberbox_guest::{Export, Identity};
use emberbox_image::{BASE_TEMPLATE, Layer, Stack};
use emberbox_runtime::net::{Dialer, Slot};
use emberbox_runtime::seed::COLD_BOOT;
use emberbox_runtime::{BootImages, BootPurpose, ExitReason, Vm, VmSpec};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{BuildFailure, Work, blocking};
use crate::actor::{Parts, report};
use crate::host::HostError;
use crate::ledger::Record;

/// Chunks of an archive between the guest and the packer.
const CHUNKS: usize = 8;

/// What its own processes see as its name.
const HOSTNAME: &str = "build";

/// A guest that is claimed, or will be.
pub(super) struct BuildVm {
    spec: VmSpec,
    slot: Arc<Slot>,
    id: VmId,
}

impl Work {
    /// Takes what a VM needs that starts with `stack`. [`BuildVm::end`] gives
    /// it back.
    pub(super) async fn vm(&self, stack: &Stack) -> Result<BuildVm, BuildFailure> {
        let parts = &self.host.parts;
        let failed = |error: HostError| BuildFailure::internal("make a VM for a step", &error);
        let boot = self.host.images(BASE_TEMPLATE).map_err(failed)?;
        let images = BootImages {
            kernel: boot.kernel,
            initramfs: boot.initramfs,
            layers: stack.paths(parts.seeds.home()),
        };
        let slot = parts.slots.take().await;
        let slot = slot.map_err(|error| failed(HostError::start(error)))?;
        let record = Record {
            vm: VmId::generate(),
            sandbox: None,
            shape: self.spec.shape(),
            images,
            slot: slot.index(),
            claimed: false,
        };
        let vm = BuildVm {
            spec: parts.ledger.spec(&record, Arc::clone(&slot)),
            slot,
            id: record.vm.clone(),
        };
        if let Err(error) = parts.ledger.put(&record) {
            vm.end(parts).await;
            return Err(failed(HostError::start(error)));
        }
        Ok(vm)
    }
}

impl BuildVm {
    /// Boots and claims the guest. Dropped half-way it leaves what
    /// [`BuildVm::end`] removes.
    pub(super) async fn start(&self, parts: &Parts) -> Result<Guest, BuildFailure> {
        let failed = |error: HostError| BuildFailure::internal("boot a VM for a step", &error);
        emberbox_image::make_scratch(&self.spec.scratch, self.spec.shape.disk_mib)
            .map_err(|error| failed(HostError::start(error)))?;
        let vm = parts.engine.boot(&self.spec, BootPurpose::Run).await;
        let vm = vm.map_err(|error| failed(HostError::start(error)))?;
        let token = parts.secret.guest_token(&self.id);
        let client = GuestClient::new(Dialer::new(Arc::clone(&self.slot)), token.clone());
        let identity = Identity {
            token,
            hostname: HOSTNAME.to_owned(),
            machine_id: rand::random(),
            env: Vec::new(),
            unix_time_ns: crate::actor::unix_time_ns(),
            entropy: rand::random(),
            mtu: self.slot.mtu(),
        };
        let guest = Guest { vm, client };
        let claimed = guest.call(async |client| {
            client.wait_ready(Instant::now() + COLD_BOOT).await?;
            client.claim(identity).await
        });
        let claimed = claimed.await;
        claimed.map_err(|error| failed(HostError::start(error)))?;
        Ok(guest)
    }

    /// Ends the VM and removes everything of it.
    pub(super) async fn end(self, parts: &Parts) {
        let ended = async {
            let reaped = parts.engine.reap(&parts.ledger.place(&self.id)).await;
            reaped.map_err(HostError::start)?;
            let given_back = parts.slots.discard(&self.slot).await;
            given_back.map_err(HostError::start)?;
            parts.ledger.remove(&self.id).map_err(HostError::start)
        };
        if let Err(error) = ended.await {
            // The record stays for the next start.
            tracing::error!(vm = %self.id, error = report(&error), "a step's VM cannot be removed");
        }
    }
}

/// A guest that answers.
pub(super) struct Guest {
    vm: Arc<dyn Vm>,
    client: GuestClient,
}

/// Why a guest did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuestFailure {
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error("the guest ended: {0:?}")]
    Ended(ExitReason),
}

impl Guest {
    /// A call that notices the guest's end.
    pub(super) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&GuestClient) -> Result<T, ClientError>,
    ) -> Result<T, GuestFailure> {
        tokio::select! {
            answer = call(&self.client) => Ok(answer?),
            reason = self.vm.wait() => Err(GuestFailure::Ended(reason)),
        }
    }

    /// Packs what the guest holds into a layer.
    pub(super) async fn layer(&self, work: &Work, export: Export) -> Result<Layer, BuildFailure> {
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let (home, dir) = (work.home(), Arc::clone(&work.dir));
        let packing = blocking("pack a layer", move || {
            emberbox_image::layer_of_changes(&home, &dir, Chunks::new(receiver))
        });
        let sending = async {
            let sent = self.call(async |client| {
                let mut archive = client.export(export).await?;
                while let Some(data) = archive.next().await? {
                    if sender.send(Ok(data)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = sent.await {
                // The packer must not take what there is for the whole.
                let _ = sender.send(Err(io::Error::other(error))).await;
            }
            drop(sender);
        };
        let (layer, ()) = tokio::join!(packing, sending);
        layer
    }
}

/// Bytes that come over a channel, for a thread that reads.
struct Chunks {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Chunks {
    fn new(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        let current = Bytes::new();
        Self { receiver, current }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
