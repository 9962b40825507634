//! Links, addresses, routes and neighbours, through rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::task::JoinHandle;

use super::{
    GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_ADDRESS, GUEST_MAC, Instance, NetError, PREFIX_LEN,
    SlotIndex, tap,
};

/// The namespace's end of the veth pair.
pub(super) const UPLINK: &str = "uplink";

/// The prefix of a veth pair's two addresses (RFC 3021).
const TRANSIT_PREFIX_LEN: u8 = 31;

/// What a link carries when the host has no default route to learn it from:
/// Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// The kernel's main routing table.
const MAIN_TABLE: u8 = RouteHeader::RT_TABLE_MAIN;

/// A connection to the kernel, in the namespace of the thread that opened it.
pub(super) struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        // Its socket would keep the namespace alive.
        self.connection.abort();
    }
}

impl Links {
    /// Connects to the namespace of the calling thread; the connection runs on
    /// `runtime`.
    pub(super) fn open(runtime: &tokio::runtime::Handle) -> io::Result<Self> {
        let _entered = runtime.enter();
        let (connection, handle, _unsolicited) = rtnetlink::new_connection()?;
        let connection = runtime.spawn(connection);
        Ok(Self { handle, connection })
    }

    /// Makes the veth pair of a slot, called on the host: one end here, in the
    /// instance's group and without IPv6, the other in `netns`.
    pub(super) async fn connect_host(
        &self,
        index: SlotIndex,
        instance: Instance,
        netns: &OwnedFd,
        mtu: u16,
    ) -> Result<(), NetError> {
        let name = index.host_link();
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(UPLINK)
            .mtu(mtu.into())
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(&name, UPLINK)
            .mtu(mtu.into())
            .link_group(instance.link_group())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let doing = format!("make the veth pair {name}");
        let made = self.handle.link().add(pair).execute().await;
        made.map_err(NetError::netlink(doing))?;
        without_ipv6(&name)?;
        let (host, _inside) = index.transit();
        self.address(self.index_of(&name).await?, host, TRANSIT_PREFIX_LEN)
            .await
    }

    /// Sets up the inside of a slot's namespace, called there.
    pub(super) async fn connect_inside(&self, index: SlotIndex, mtu: u16) -> Result<(), NetError> {
        let (host, inside) = index.transit();
        let uplink = self.index_of(UPLINK).await?;
        self.address(uplink, inside, TRANSIT_PREFIX_LEN).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(host)
            .output_interface(uplink)
            .build();
        let added = self.handle.route().add(route).execute().await;
        added.map_err(NetError::netlink(format!("route slot {index} to the host")))?;

        let tap = self.index_of(tap::NAME).await?;
        let shape = LinkMessageBuilder::<LinkUnspec>::new()
            .index(tap)
            .mtu(mtu.into())
            .address(GATEWAY_MAC.to_vec())
            .build();
        let set = self.handle.link().set(shape).execute().await;
        set.map_err(NetError::netlink(format!("shape the TAP of slot {index}")))?;
        self.address(tap, GATEWAY_ADDRESS, PREFIX_LEN).await?;
        let guest = IpAddr::V4(GUEST_ADDRESS);
        let neighbour = self.handle.neighbours().add(tap, guest);
        let added = neighbour.link_layer_address(&GUEST_MAC).execute().await;
        added.map_err(NetError::netlink(format!(
            "name the guest of slot {index} a neighbour"
        )))
    }

    /// Gives a link its address and brings it up.
    async fn address(&self, link: u32, address: Ipv4Addr, prefix_len: u8) -> Result<(), NetError> {
        let doing = || NetError::netlink(format!("give a link the address {address}"));
        let add = self.handle.address().add(link, address.into(), prefix_len);
        add.execute().await.map_err(doing())?;
        let up = LinkUnspec::new_with_index(link).up().build();
        self.handle.link().set(up).execute().await.map_err(doing())
    }

    async fn index_of(&self, name: &str) -> Result<u32, NetError> {
        let get = self.handle.link().get().match_name(name);
        let found = get.execute().try_next().await;
        let found = found.map_err(NetError::netlink(format!("find link {name}")))?;
        let link = found.ok_or_else(|| {
            NetError::io(format!("find link {name}"))(io::ErrorKind::NotFound.into())
        })?;
        Ok(link.header.index)
    }

    /// The slots of `instance` that have a veth on the host, with its index.
    pub(super) async fn of_instance(
        &self,
        instance: Instance,
    ) -> Result<Vec<(SlotIndex, u32)>, NetError> {
        let mut found = Vec::new();
        let mut links = std::pin::pin!(self.handle.link().get().execute());
        while let Some(link) = links
            .try_next()
            .await
            .map_err(NetError::netlink("list the links"))?
        {
            found.extend(slot_of(&link, instance).map(|slot| (slot, link.header.index)));
        }
        Ok(found)
    }

    /// Removes the veth pair of one slot of `instance`. Idempotent.
    pub(super) async fn disconnect_one(
        &self,
        instance: Instance,
        index: SlotIndex,
    ) -> Result<(), NetError> {
        let get = self.handle.link().get().match_name(index.host_link());
        match get.execute().try_next().await {
            Ok(Some(link)) if slot_of(&link, instance).is_some() => {
                self.delete(index, link.header.index).await
            }
            Ok(_) => Ok(()),
            Err(error) if is_no_such_device(&error) => Ok(()),
            Err(error) => Err(NetError::netlink(format!("find the veth of slot {index}"))(
                error,
            )),
        }
    }

    async fn delete(&self, slot: SlotIndex, link: u32) -> Result<(), NetError> {
        match self.handle.link().del(link).execute().await {
            Err(error) if !is_no_such_device(&error) => Err(NetError::netlink(format!(
                "remove the veth pair of slot {slot}"
            ))(error)),
            _gone => Ok(()),
        }
    }

    /// The MTU of the device the default route goes through.
    pub(super) async fn uplink_mtu(&self) -> Result<u16, NetError> {
        let doing = || NetError::netlink("find the default route");
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = std::pin::pin!(self.handle.route().get(all).execute());
        let mut best: Option<(u32, u32)> = None;
        while let Some(route) = routes.try_next().await.map_err(doing())? {
            let default =
                route.header.destination_prefix_length == 0 && route.header.table == MAIN_TABLE;
            let mut metric = 0;
            let mut device = None;
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Priority(value) => metric = *value,
                    RouteAttribute::Oif(link) => device = Some(*link),
                    _ => {}
                }
            }
            if let (true, Some(device)) = (default, device) {
                let candidate = (metric, device);
                best = Some(best.map_or(candidate, |best| best.min(candidate)));
            }
        }
        let Some((_metric, device)) = best else {
            return Ok(DEFAULT_MTU);
        };
        let get = self.handle.link().get().match_index(device);
        let link = get.execute().try_next().await.map_err(doing())?;
        let mtu = link.iter().flat_map(|link| &link.attributes);
        let mtu = mtu.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        Ok(mtu
            .and_then(|mtu| u16::try_from(mtu).ok())
            .unwrap_or(DEFAULT_MTU))
    }
}

/// Which slot of `instance` this link belongs to.
fn slot_of(link: &LinkMessage, instance: Instance) -> Option<SlotIndex> {
    let mut index = None;
    let mut grouped = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => {
                index = name.strip_prefix("eb").and_then(|rest| rest.parse().ok());
            }
            LinkAttribute::Group(group) => grouped = *group == instance.link_group(),
            _ => {}
        }
    }
    index.filter(|_| grouped).map(SlotIndex)
}

fn is_no_such_device(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.raw_code() == -nix::libc::ENODEV)
}

/// Keeps IPv6 off one of the host's links. A host without IPv6 needs nothing.
fn without_ipv6(link: &str) -> Result<(), NetError> {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    super::ledger::absent_is_fine(std::fs::write(path, "1"))
        .map_err(NetError::io(format!("keep IPv6 off {link}")))
}
