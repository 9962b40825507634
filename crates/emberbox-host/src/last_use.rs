//! What the networks of ended VMs carried, until somebody has asked.
//!
//! A VM's counters go with its namespace, and who bills it asks afterwards.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use emberbox_core::VmId;
use emberbox_runtime::net::NetworkUse;

/// Ended VMs that are remembered, the newest: each is asked for within moments
/// of its end, and a machine does not end this many in that time.
const KEPT: usize = 4096;

/// The last counters of ended VMs.
#[derive(Default)]
pub(crate) struct LastNetworkUse(Mutex<BTreeMap<VmId, NetworkUse>>);

impl LastNetworkUse {
    /// Keeps what an ended VM's network carried.
    pub(crate) fn keep(&self, vm: &VmId, last: NetworkUse) {
        let mut kept = self.kept();
        kept.insert(vm.clone(), last);
        // Identifiers sort by age.
        while kept.len() > KEPT {
            kept.pop_first();
        }
    }

    /// What an ended VM's network carried.
    pub(crate) fn get(&self, vm: &VmId) -> Option<NetworkUse> {
        self.kept().get(vm).copied()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<VmId, NetworkUse>> {
        self.0.lock().expect("no panic while the map is held")
    }
}

#[cfg(test)]
mod tests;
