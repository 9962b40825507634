//! The guest's one network device, the same in every guest.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use super::cmdline::Plan;
use super::{BootError, Doing, mounts};
use crate::identity::{NETWORK_DEVICE, write_plain};
use crate::sys::Interface;

/// Brings the network up. The neighbour entry is permanent, so that no packet
/// of a restored guest waits for an address resolution.
pub(super) fn configure(plan: &Plan) -> Result<(), BootError> {
    Interface::new("lo")
        .and_then(|lo| {
            lo.set_address(Ipv4Addr::LOCALHOST, 8)
                .and_then(|()| lo.up())
        })
        .doing("set up lo")?;
    if !mounts::wait_for(&format!("/sys/class/net/{NETWORK_DEVICE}")) {
        return Err(BootError::NoNetwork(NETWORK_DEVICE));
    }
    let quiet = || -> io::Result<()> {
        disable_ipv6()?;
        let device = Interface::new(NETWORK_DEVICE)?;
        device.set_address(plan.address, plan.prefix)?;
        device.up()?;
        device.add_default_route(plan.gateway)?;
        device.add_neighbour(plan.gateway, plan.gateway_mac)
    };
    quiet().doing(format!("set up {NETWORK_DEVICE}"))?;
    let resolver = format!("nameserver {}\n", plan.gateway);
    write_plain(Path::new("/etc/resolv.conf"), resolver.as_bytes()).doing("write /etc/resolv.conf")
}

/// The path to the outside has no IPv6. `lo` keeps it: servers that listen on
/// `localhost` often choose `::1`.
fn disable_ipv6() -> io::Result<()> {
    for scope in ["default", NETWORK_DEVICE] {
        let switch = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        if Path::new(&switch).exists() {
            fs::write(switch, "1")?;
        }
    }
    Ok(())
}
