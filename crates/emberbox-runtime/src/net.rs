//! A VM's network: a *slot* of its own namespace with a TAP for the VMM, a
//! veth pair to the host, the rules about what may pass, and a DNS relay.
//!
//! Decides: addresses, names, firewall rules, who finds and removes what.
//! Must not know: engines, images, sandboxes.
//!
//! ```text
//!  guest            namespace emberbox-<instance>-<index>          host
//! ┌────────────┐   ┌─────────────────────────────────────┐   ┌───────────────┐
//! │ 172.30.0.2 │──▶│ tap0 172.30.0.1    uplink 100.64.x.y│──▶│ eb<index>     │──▶ out
//! └────────────┘   │ :53 DNS relay      masquerade       │   │ masquerade    │
//!                  └─────────────────────────────────────┘   └───────────────┘
//! ```
//!
//! Invariants: the guest's side is the same in every slot, so one memory
//! snapshot fits all; a slot serves one VM in its life and is never reused;
//! its ledger entry is written before anything else of it exists and removed
//! last, so what a `kill -9` leaves is found by [`SlotPool::reap_except`]; no
//! thread of the async runtime ever enters a foreign namespace.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

mod counters;
mod dns;
mod ledger;
mod link;
mod make;
mod namespace;
mod pool;
mod rules;
mod slot;
mod tap;

pub use counters::NetworkUse;
pub use pool::SlotPool;
pub use slot::{Dialer, Slot};
pub(crate) use tap::NAME as TAP_NAME;

/// The guest's address, the same in every slot.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);

/// The guest's gateway and resolver: the TAP.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

/// The prefix both addresses share.
pub const PREFIX_LEN: u8 = 30;

/// The TAP's MAC. A restored guest remembers it from the seed, so it must be
/// the same in every slot.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0xeb, 0, 0, 0, 1];

/// The guest's MAC.
pub const GUEST_MAC: [u8; 6] = [0x02, 0xeb, 0, 0, 0, 2];

/// Slots one machine can have at a time, over all its servers. 65 536 pairs
/// fill 100.64.0.0/15, a part of the shared address space (RFC 6598) that
/// holds no cloud's metadata address; memory ends long before.
pub const MAX_SLOTS: u32 = 65_536;

/// The first of [`MAX_SLOTS`] user ids, unless configured: above what
/// distributions hand out to people and subordinate ids, below 2³¹.
pub const DEFAULT_UID_BASE: u32 = 0x6eb0_0000;

/// Which server a slot belongs to: six lower-case hex digits, one value per
/// data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance(u32);

impl Instance {
    const BITS: u32 = 24;

    /// An instance from the low 24 bits of `seed`, for example of a hash of
    /// the data directory's path.
    #[must_use]
    pub fn from_bits(seed: u32) -> Self {
        Self(seed & ((1 << Self::BITS) - 1))
    }

    /// The device group of this instance's veths, by which the host's rules
    /// tell them from everybody else's. Below 2³¹: `ip` takes no more.
    fn link_group(self) -> u32 {
        Self::ANY_LINK_GROUP | self.0
    }

    /// What the device groups of all instances have in common, above their
    /// [`Instance::BITS`].
    const ANY_LINK_GROUP: u32 = 0x6b << Self::BITS;
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl FromStr for Instance {
    type Err = InvalidInstance;

    fn from_str(text: &str) -> Result<Self, InvalidInstance> {
        let legal = text.len() == 6
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let bits = u32::from_str_radix(text, 16).ok().filter(|_| legal);
        bits.map(Self).ok_or(InvalidInstance)
    }
}

/// A string that is not an [`Instance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an instance name: six lower-case hex digits")]
pub struct InvalidInstance;

/// Which slot of this machine, unique over all servers on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotIndex(pub u32);

impl SlotIndex {
    /// The host's end of the veth pair.
    fn host_link(self) -> String {
        format!("eb{}", self.0)
    }

    /// The addresses of the veth pair: host's end, namespace's end.
    pub(crate) fn transit(self) -> (Ipv4Addr, Ipv4Addr) {
        let host = u32::from(rules::TRANSIT.network()) + 2 * self.0;
        (Ipv4Addr::from(host), Ipv4Addr::from(host + 1))
    }
}

impl fmt::Display for SlotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Slots that must stay.
pub type SlotSet = HashSet<SlotIndex>;

/// How slots are made.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Whose slots these are.
    pub instance: Instance,
    /// Where all servers of this machine record which slots exist. They must
    /// share it; a file system that is empty after a reboot.
    pub run_dir: PathBuf,
    /// Private ranges guests may reach all the same.
    pub allowed_private: Vec<Ipv4Net>,
    /// Slots kept ready; 0 makes each one when it is asked for.
    pub pool_size: usize,
    /// The VMM of slot `i` runs as user `uid_base + i`.
    pub uid_base: u32,
    /// Resolvers that guests' queries are relayed to; `None` follows
    /// `/etc/resolv.conf`. Names in `/etc/hosts` are not served.
    pub upstream_dns: Option<Vec<SocketAddr>>,
}

impl NetConfig {
    /// The defaults for `instance`.
    #[must_use]
    pub fn new(instance: Instance) -> Self {
        Self {
            instance,
            run_dir: PathBuf::from("/run/emberbox"),
            allowed_private: Vec::new(),
            pool_size: 4,
            uid_base: DEFAULT_UID_BASE,
            upstream_dns: None,
        }
    }
}

/// Why a slot could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The operating system refused a step.
    #[error("cannot {doing}")]
    Io {
        /// The step.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error("cannot {doing}")]
    Netlink {
        /// The step.
        doing: String,
        /// Why.
        #[source]
        source: rtnetlink::Error,
    },
    /// `nft` refused the rules.
    #[error("cannot load the rules of table {table}: {detail}")]
    Rules {
        /// The table.
        table: String,
        /// What `nft` said.
        detail: String,
    },
    /// Every slot of this machine is in use.
    #[error("all {MAX_SLOTS} network slots of this machine are in use")]
    Exhausted,
    /// The user that a slot's VMM would run as is somebody else's.
    #[error(
        "user {uid} is taken by process {pid}: VMs run as users of their own from {DEFAULT_UID_BASE} \
         on; end that process, or give its user another number"
    )]
    UserInUse {
        /// The user.
        uid: u32,
        /// Who runs as that user.
        pid: i32,
    },
    /// The slot does not exist or belongs to another server.
    #[error("network slot {0} is not one of this server's")]
    NotOurs(SlotIndex),
    /// The pool was closed.
    #[error("the network slots are closed")]
    Closed,
}

impl NetError {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    fn errno(doing: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io {
            doing,
            source: source.into(),
        }
    }

    fn netlink(doing: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Netlink { doing, source }
    }
}

#[cfg(test)]
mod tests;
