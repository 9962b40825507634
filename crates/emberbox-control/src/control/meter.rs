//! Metering: settles what runs, and samples what it takes.
//!
//! A settlement proves that a VM ran: its moment is taken before the host is
//! asked what runs. What the host does not run is not settled here: its end
//! closes its segment, or the next start of the server does.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use emberbox_core::VmId;
use emberbox_host::ResourceUse;
use emberbox_runtime::net::NetworkUse;
use emberbox_store::{OpenSegment, Readings, SandboxRecord, SegmentKind};
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::Control;
use super::samples::Sample;
use crate::Failure;

impl Control {
    pub(super) async fn keep_accounts(self: Arc<Self>) {
        let interval = self.settings.billing.settle_interval_sec.max(1);
        let interval = Duration::from_secs(interval.into());
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = sleep(interval) => {}
            }
            if let Err(failure) = self.settle_all().await {
                tracing::error!(error = failure.chain(), "usage could not be settled");
            }
            if let Err(failure) = self.apply_credit_policy().await {
                tracing::error!(error = failure.chain(), "accounts could not be looked at");
            }
        }
    }

    async fn settle_all(&self) -> Result<(), Failure> {
        let seen = Timestamp::now();
        let running: HashSet<_> = self.compute.running().into_iter().collect();
        let segments = self.store.open_segments().await?;
        let live = segments.iter().map(|segment| segment.sandbox.clone());
        self.samples.keep_only(&live.collect());
        for segment in segments {
            match segment.kind {
                SegmentKind::Compute if running.contains(&segment.vm) => {
                    let readings = self.sample(&segment).await;
                    self.store.settle_segment(&segment, seen, readings).await?;
                }
                SegmentKind::Compute => {}
                SegmentKind::Storage => {
                    self.store.settle_segment(&segment, seen, None).await?;
                }
            }
        }
        Ok(())
    }

    /// Looks at what a VM takes, and remembers it. `None` if it cannot be read
    /// now, for example because it is ending.
    async fn sample(&self, segment: &OpenSegment) -> Option<Readings> {
        let vm = &segment.vm;
        let network = self.compute.network_use(vm).await.ok()?;
        let Ok(resources) = self.compute.resource_use(vm).await else {
            return Some(readings(network, ResourceUse::default()));
        };
        let sample = Sample {
            at: Timestamp::now(),
            vm: vm.clone(),
            resources,
            network,
        };
        self.samples.keep(&segment.sandbox, sample);
        Some(readings(network, resources))
    }

    /// What a sandbox takes now; `None` while it does not run.
    pub(crate) async fn sample_now(&self, record: &SandboxRecord) -> Option<Sample> {
        let network = self.compute.network_use(&record.vm).await.ok()?;
        let resources = self.compute.resource_use(&record.vm).await.ok()?;
        Some(Sample {
            at: Timestamp::now(),
            vm: record.vm.clone(),
            resources,
            network,
        })
    }

    /// What a sandbox took in the last `window`, oldest first.
    pub(crate) fn samples(&self, record: &SandboxRecord, window: SignedDuration) -> Vec<Sample> {
        self.samples.since(&record.id, window)
    }

    /// Keeps a VM's counters for its segment, so that what is told or settled
    /// next knows of them.
    pub(crate) async fn note_readings(&self, record: &SandboxRecord) -> Result<(), Failure> {
        let Some(now) = self.sample_now(record).await else {
            return Ok(());
        };
        let readings = readings(now.network, now.resources);
        Ok(self.store.note_readings(&record.vm, readings).await?)
    }

    /// Keeps the last counters of a VM that has ended, before the change of
    /// state that closes its segment. Without them the segment closes with
    /// those of its last settlement.
    pub(super) async fn note_last_readings(&self, vm: &VmId) {
        let Ok(network) = self.compute.network_use(vm).await else {
            return;
        };
        let readings = readings(network, ResourceUse::default());
        if let Err(error) = self.store.note_readings(vm, readings).await {
            let error = Failure::from(error).chain();
            tracing::error!(%vm, error, "a VM's last counters are lost");
        }
    }

    /// Closes segments of VMs that ended while no server watched. Runs before
    /// anything else can change a state.
    pub(super) async fn close_lost_segments(&self, running: &HashSet<VmId>) -> Result<(), Failure> {
        for segment in self.store.open_segments().await? {
            match segment.kind {
                SegmentKind::Compute if !running.contains(&segment.vm) => {
                    self.store.close_lost_segment(&segment).await?;
                }
                SegmentKind::Compute | SegmentKind::Storage => {}
            }
        }
        Ok(())
    }
}

fn readings(network: NetworkUse, resources: ResourceUse) -> Readings {
    Readings {
        egress_bytes: network.egress_bytes,
        ingress_bytes: network.ingress_bytes,
        cpu_ms: u64::try_from(resources.cpu_time.as_millis()).unwrap_or(u64::MAX),
    }
}
