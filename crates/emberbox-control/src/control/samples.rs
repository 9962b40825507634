//! What sandboxes took of their machine lately, in memory only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use emberbox_core::{SandboxId, VmId};
use emberbox_host::ResourceUse;
use emberbox_runtime::net::NetworkUse;
use jiff::{SignedDuration, Timestamp};

/// Samples kept of one sandbox: four hours at the default interval, some 30 KB.
const KEPT: usize = 240;

/// What one sandbox took at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Timestamp,
    /// The life it is of: counters begin anew with each.
    pub(crate) vm: VmId,
    pub(crate) resources: ResourceUse,
    pub(crate) network: NetworkUse,
}

impl Sample {
    /// Part of one processor, in hundredths, since an earlier sample.
    pub(crate) fn cpu_percent_since(&self, earlier: &Self) -> Option<f64> {
        let wall = self.at.duration_since(earlier.at).as_secs_f64();
        if self.vm != earlier.vm || wall <= 0.0 {
            return None;
        }
        let busy = self.resources.cpu_time;
        let busy = busy.saturating_sub(earlier.resources.cpu_time);
        Some(busy.as_secs_f64() / wall * 100.0)
    }
}

/// The latest samples of each sandbox that lives.
#[derive(Default)]
pub(crate) struct Samples(Mutex<HashMap<SandboxId, VecDeque<Sample>>>);

impl Samples {
    pub(super) fn keep(&self, sandbox: &SandboxId, sample: Sample) {
        let mut all = self.all();
        let kept = all.entry(sandbox.clone()).or_default();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(sample);
    }

    /// The samples of the last `window`, oldest first.
    pub(super) fn since(&self, sandbox: &SandboxId, window: SignedDuration) -> Vec<Sample> {
        let oldest = Timestamp::now().checked_sub(window);
        let oldest = oldest.unwrap_or(Timestamp::MIN);
        let all = self.all();
        let kept = all.get(sandbox).into_iter().flatten();
        kept.filter(|sample| sample.at >= oldest).cloned().collect()
    }

    /// Forgets every sandbox but these.
    pub(super) fn keep_only(&self, sandboxes: &HashSet<SandboxId>) {
        self.all().retain(|sandbox, _| sandboxes.contains(sandbox));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<SandboxId, VecDeque<Sample>>> {
        self.0.lock().expect("no panic while the map is held")
    }
}

#[cfg(test)]
mod tests;
