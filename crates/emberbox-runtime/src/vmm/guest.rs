//! What every guest is told when its kernel starts.

use crate::net::{GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_ADDRESS, PREFIX_LEN};

/// The part of a kernel's command line that no engine changes: where its
/// console is, what it need not do, and what the agent has to know.
pub(crate) fn kernel_command_line(layers: usize) -> String {
    [
        "console=ttyS0 quiet panic=-1 8250.nr_uarts=1 net.ifnames=0 ipv6.disable=1".to_owned(),
        "random.trust_cpu=on transparent_hugepage=madvise cryptomgr.notests".to_owned(),
        format!("emberbox.layers={layers}"),
        format!("emberbox.address={GUEST_ADDRESS}/{PREFIX_LEN}"),
        format!(
            "emberbox.gateway={GATEWAY_ADDRESS} emberbox.gateway_mac={}",
            mac(GATEWAY_MAC)
        ),
    ]
    .join(" ")
}

/// As everybody writes it.
pub(crate) fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}
