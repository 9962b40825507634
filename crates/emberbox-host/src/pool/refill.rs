//! Keeps the pool as large as it shall be: one VM at a time, when nobody else
//! needs the machine, and the first in line running.

use std::sync::{Arc, Weak};
use std::time::Duration;

use emberbox_core::VmId;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Kind, Next, PUT_OFF, Pool, Ready};
use crate::actor::{Order, report};
use crate::host::{Host, HostError, Origin, boot_images};

/// How often is looked for what nobody asks for any more.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Rest of a kind that could not be prepared: its seed may be on its way, and
/// a broken machine is told about in the log a few times a minute.
const REST: Duration = Duration::from_secs(5);

/// Works until the pool is closed or its host is gone.
pub(crate) async fn refill(host: Weak<Host>, pool: Arc<Pool>) {
    while !pool.is_closed() {
        for handle in pool.sleepers() {
            let Some(host) = host.upgrade() else { return };
            let _ = timeout(PUT_OFF, host.calm()).await;
            handle.wake().await;
        }
        match pool.next() {
            Next::Nothing => {
                tokio::select! {
                    () = pool.changed.notified() => {}
                    () = sleep(LOOK_AGAIN) => {}
                }
            }
            Next::GiveUp(kind) => {
                if let Some(ready) = pool.surplus(&kind) {
                    ready.handle.destroy().await;
                }
            }
            Next::Prepare(kind) => {
                let Some(host) = host.upgrade() else { return };
                // At the end of the wait the others have had their time.
                let _ = timeout(PUT_OFF, host.calm()).await;
                if pool.is_closed() {
                    return;
                }
                if let Err(error) = host.prepare(&kind).await
                    && !pool.is_closed()
                {
                    pool.failed(&kind, REST);
                    let Kind { image, shape } = &kind;
                    match error {
                        // It comes with the first create of that shape.
                        HostError::NoSeed => {}
                        HostError::NoCapacity => {
                            tracing::debug!(image, %shape, "no room to prepare VMs")
                        }
                        error => {
                            let error = report(&error);
                            tracing::warn!(image, %shape, error, "no VM could be prepared");
                        }
                    }
                }
            }
        }
    }
}

impl Host {
    /// Resolves when nobody waits for a VM and those who just got one have had
    /// a moment.
    pub(crate) async fn calm(&self) {
        loop {
            self.turns().quiet().await;
            match self.pool().calm_at() {
                Some(at) if at > Instant::now() => sleep_until(at).await,
                Some(_) | None => return,
            }
        }
    }

    /// Prepares one VM and puts it into the pool. If the pool is closed
    /// meanwhile, it is removed again.
    async fn prepare(self: &Arc<Self>, kind: &Kind) -> Result<(), HostError> {
        let (images, _held) = self.ready(&kind.image, kind.shape).await?;
        let seed = self.find_seed(&images, kind.shape);
        let order = Order {
            images: boot_images(&images),
            shape: kind.shape,
            seed: seed.ok_or(HostError::NoSeed)?,
        };
        let vm = VmId::generate();
        let started = Instant::now();
        let (answer, prepared) = oneshot::channel();
        let (actor, handle) = self.admit(&vm, kind.shape, &Origin::Image)?;
        let (host, id, events) = (Arc::clone(self), vm.clone(), self.events());
        tokio::spawn(async move {
            actor.prepare(order, answer, events).await;
            host.vm_ended(&id);
        });
        let mut prepared = std::pin::pin!(prepared);
        let outcome = loop {
            tokio::select! {
                outcome = &mut prepared => break outcome,
                () = self.pool().changed.notified() => {
                    if self.pool().is_closed() {
                        handle.destroy().await;
                    }
                }
            }
        };
        outcome.map_err(|_ended| HostError::ShuttingDown)??;
        let ready = Ready {
            vm,
            digest: images.digest,
            handle: handle.clone(),
            sleeps: images.app.is_none(),
        };
        if !self.pool().put(kind, ready, started.elapsed()) {
            handle.destroy().await;
        }
        Ok(())
    }
}
