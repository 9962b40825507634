//! One slot: what its VM and its callers may do with it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use emberbox_guest::client::Dial;
use tokio::net::{TcpSocket, TcpStream};

use super::dns::{Relay, RelaySockets, Upstreams};
use super::namespace::{self, NamespaceThread};
use super::{GUEST_ADDRESS, NetworkUse, SlotIndex, counters, tap};

/// One VM's network slot.
///
/// Dropping it ends its DNS relay and removes nothing: the VM may outlive this
/// process. [`SlotPool::discard`](super::SlotPool::discard) removes it.
pub struct Slot {
    index: SlotIndex,
    name: String,
    uid: u32,
    mtu: u16,
    netns: Arc<OwnedFd>,
    thread: NamespaceThread,
    relay: Mutex<RelayState>,
    /// Whether nothing of it is left; held while it is being removed.
    pub(super) gone: tokio::sync::Mutex<bool>,
}

enum RelayState {
    Bound(RelaySockets),
    Serving { _relay: Relay },
    Ended,
}

/// What a slot is made of.
pub(super) struct SlotParts {
    pub(super) index: SlotIndex,
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) mtu: u16,
    pub(super) netns: Arc<OwnedFd>,
    pub(super) thread: NamespaceThread,
    pub(super) dns: RelaySockets,
}

impl Slot {
    pub(super) fn new(parts: SlotParts) -> Self {
        Self {
            index: parts.index,
            name: parts.name,
            uid: parts.uid,
            mtu: parts.mtu,
            netns: parts.netns,
            thread: parts.thread,
            relay: Mutex::new(RelayState::Bound(parts.dns)),
            gone: tokio::sync::Mutex::new(false),
        }
    }

    /// What to record, and to [`adopt`](super::SlotPool::adopt) it by.
    #[must_use]
    pub fn index(&self) -> SlotIndex {
        self.index
    }

    /// The name of its namespace, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The unprivileged user and group its VMM runs as, nobody else's.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The largest packet, in bytes, that the guest should send.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Its namespace, for a VMM to enter.
    #[must_use]
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// Opens the TAP for the VMM: non-blocking, with virtio-net headers, one
    /// open at a time. The descriptor is close-on-exec, so that no VMM started
    /// meanwhile inherits it; clear that in the right child only. Blocks for
    /// some microseconds.
    pub fn open_tap(&self) -> io::Result<OwnedFd> {
        namespace::run_in_blocking(&self.netns, tap::open)
    }

    /// Connects to a port of the guest, from its gateway's address, with
    /// `TCP_NODELAY`. No deadline of its own. Cancel-safe.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let socket = self.thread.run(&self.netns, TcpSocket::new_v4).await?;
        socket.set_nodelay(true)?;
        let guest = SocketAddr::from((GUEST_ADDRESS, port));
        socket.connect(guest).await
    }

    /// What went through it so far. Cancel-safe.
    pub async fn network_use(&self) -> io::Result<NetworkUse> {
        self.thread.run(&self.netns, counters::read).await
    }

    /// Its namespace, for work on another thread.
    pub(super) fn shared_netns(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.netns)
    }

    /// Starts answering the guest's DNS queries. Idempotent.
    pub(super) fn start_relay(&self, upstreams: &Arc<Upstreams>) {
        let mut relay = self.lock_relay();
        *relay = match std::mem::replace(&mut *relay, RelayState::Ended) {
            RelayState::Bound(sockets) => RelayState::Serving {
                _relay: Relay::start(sockets, Arc::clone(upstreams)),
            },
            other => other,
        };
    }

    /// Ends the relay, or closes its sockets.
    pub(super) fn end_relay(&self) {
        *self.lock_relay() = RelayState::Ended;
    }

    fn lock_relay(&self) -> std::sync::MutexGuard<'_, RelayState> {
        self.relay
            .lock()
            .expect("no panic while the relay is replaced")
    }
}

/// Opens connections to the agent of a slot's guest.
pub struct Dialer {
    slot: Arc<Slot>,
}

impl Dialer {
    /// A dialer for the guest of `slot`.
    #[must_use]
    pub fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }
}

#[async_trait]
impl Dial for Dialer {
    async fn dial(&self) -> io::Result<TcpStream> {
        self.slot.connect(emberbox_guest::PORT).await
    }
}
