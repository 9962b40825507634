//! How a slot comes to be and goes away: every step of [`Workshop::build`] has its undo
//! in [`Workshop::remove`], which works however far the making got, even in another
//! process.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::TcpSocket;

use super::dns::{self, RelaySockets, Upstreams};
use super::ledger::Ledger;
use super::link::Links;
use super::namespace::{self, NamespaceThread};
use super::slot::{Slot, SlotParts};
use super::{NetConfig, NetError, SlotIndex, rules, tap};
use crate::process;

/// What making, finding and removing slots needs.
pub(super) struct Workshop {
    pub(super) config: NetConfig,
    pub(super) ledger: Ledger,
    pub(super) links: Links,
    pub(super) thread: NamespaceThread,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) mtu: u16,
}

impl Workshop {
    /// Makes a slot whose index is recorded already.
    pub(super) async fn build(&self, index: SlotIndex) -> Result<Arc<Slot>, NetError> {
        let name = self.name(index);
        // A ledger that was wiped by hand leaves names behind.
        namespace::remove(&name)?;
        let runtime = tokio::runtime::Handle::current();
        let allowed = self.config.allowed_private.clone();
        let uid = self.uid(index);
        if let Some(pid) = process::any_of(uid).map_err(NetError::io("list processes"))? {
            return Err(NetError::UserInUse { uid, pid });
        }
        let (netns, inside) = namespace::create(name, move || {
            set_parameters()?;
            tap::create(uid).map_err(NetError::io(format!("make the TAP of slot {index}")))?;
            rules::load_inside(&allowed)?;
            Links::open(&runtime).map_err(NetError::io("connect to netlink in a namespace"))
        })
        .await?;
        let instance = self.config.instance;
        self.links
            .connect_host(index, instance, &netns, self.mtu)
            .await?;
        inside.connect_inside(index, self.mtu).await?;
        self.furnish(index, netns).await
    }

    /// Finds a slot that an earlier process made, and brings its rules up to
    /// date.
    pub(super) async fn find(&self, index: SlotIndex) -> Result<Arc<Slot>, NetError> {
        if !self.ledger.owns(index)? {
            return Err(NetError::NotOurs(index));
        }
        let netns = namespace::open(&self.name(index))?;
        let slot = self.furnish(index, netns).await?;
        let allowed = self.config.allowed_private.clone();
        let inside = slot.shared_netns();
        namespace::run_in(inside, move || rules::load_inside(&allowed)).await?;
        Ok(slot)
    }

    /// Removes whatever exists of a slot of ours. Idempotent. Its namespace
    /// itself ends with its last process, descriptor and [`Slot`].
    pub(super) async fn remove(&self, index: SlotIndex) -> Result<(), NetError> {
        let instance = self.config.instance;
        self.links.disconnect_one(instance, index).await?;
        namespace::remove(&self.name(index))?;
        self.ledger.release(index)
    }

    async fn furnish(&self, index: SlotIndex, netns: OwnedFd) -> Result<Arc<Slot>, NetError> {
        let netns = Arc::new(netns);
        let bind = || -> std::io::Result<(std::net::UdpSocket, TcpSocket)> {
            let tcp = TcpSocket::new_v4()?;
            // Connections of before our restart may still be closing.
            tcp.set_reuseaddr(true)?;
            tcp.bind(dns::ADDRESS.into())?;
            let udp = std::net::UdpSocket::bind(dns::ADDRESS)?;
            udp.set_nonblocking(true)?;
            Ok((udp, tcp))
        };
        let bound = self.thread.run(&netns, bind).await;
        let dns = bound
            .and_then(|(udp, tcp)| RelaySockets::new(udp, tcp))
            .map_err(NetError::io(format!(
                "open the DNS sockets of slot {index}"
            )))?;
        Ok(Arc::new(Slot::new(SlotParts {
            index,
            name: self.name(index),
            uid: self.uid(index),
            mtu: self.mtu,
            netns,
            thread: self.thread.clone(),
            dns,
        })))
    }

    fn uid(&self, index: SlotIndex) -> u32 {
        self.config.uid_base + index.0
    }

    fn name(&self, index: SlotIndex) -> String {
        namespace::name(self.config.instance, index)
    }
}

/// Sets the kernel's parameters of the calling thread's namespace.
fn set_parameters() -> Result<(), NetError> {
    let parameters = [
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        ("ipv4/ip_forward", "1"),
        // The uplink's address is nobody's business on the guest's side.
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
    ];
    for (name, value) in parameters {
        let written = fs::write(format!("/proc/sys/net/{name}"), value);
        // Without IPv6 in the kernel there is nothing to switch off.
        let written = if name.starts_with("ipv6/") {
            super::ledger::absent_is_fine(written)
        } else {
            written
        };
        written.map_err(NetError::io(format!("set net/{name} in a namespace")))?;
    }
    Ok(())
}
