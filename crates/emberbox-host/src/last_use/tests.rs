use emberbox_core::VmId;
use emberbox_runtime::net::NetworkUse;

use super::{KEPT, LastNetworkUse};

#[test]
fn the_oldest_are_forgotten_first() {
    let last = LastNetworkUse::default();
    let mut vms: Vec<VmId> = (0..=KEPT).map(|_| VmId::generate()).collect();
    vms.sort();
    for (vm, egress_bytes) in vms.iter().zip(0..) {
        let carried = NetworkUse {
            egress_bytes,
            ..NetworkUse::default()
        };
        last.keep(vm, carried);
    }
    assert_eq!(last.get(&vms[0]), None);
    assert_eq!(
        last.get(&vms[1]).map(|carried| carried.egress_bytes),
        Some(1)
    );
}
