//! How much went through a slot.

use std::{fs, io};

use super::{link, tap};

/// What went through a slot since it was made, in bytes. Counters of the
/// kernel: they never go back and outlive this server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// Left through the uplink: what the guest sent to the outside, as far as
    /// the rules let it. Answers to this host's own calls do not leave.
    pub egress_bytes: u64,
    /// Came in through the uplink.
    pub ingress_bytes: u64,
    /// Everything the guest sent over its TAP, wherever to.
    pub guest_sent_bytes: u64,
    /// Everything the guest was sent.
    pub guest_received_bytes: u64,
}

/// Reads the counters of the calling thread's namespace.
pub(super) fn read() -> io::Result<NetworkUse> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    parse(&table).ok_or_else(|| io::Error::other("a link of the slot is not there"))
}

/// A table as in proc_pid_net(5): received bytes first, sent ones ninth.
fn parse(table: &str) -> Option<NetworkUse> {
    let counters = |link: &str| {
        let line = table.lines().find_map(|line| {
            let (name, counters) = line.split_once(':')?;
            (name.trim() == link).then_some(counters)
        })?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let received = numbers.next()?.ok()?;
        let sent = numbers.nth(7)?.ok()?;
        Some((received, sent))
    };
    let (ingress_bytes, egress_bytes) = counters(link::UPLINK)?;
    let (guest_sent_bytes, guest_received_bytes) = counters(tap::NAME)?;
    Some(NetworkUse {
        egress_bytes,
        ingress_bytes,
        guest_sent_bytes,
        guest_received_bytes,
    })
}

#[cfg(test)]
mod tests;
