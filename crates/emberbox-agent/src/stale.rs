//! Connections of an earlier life.
//!
//! A guest that was restored has its sockets back, but nobody is at their other
//! ends: the network's memory of them is gone, and their peers have moved on or
//! speak to another restore of the same guest. Whoever waits at one would wait
//! until a timeout of minutes or for ever, so they are broken off.
//!
//! The guest's kernel need not be asked to destroy foreign sockets (which many
//! are built without): the agent takes a duplicate of each from the process
//! that has it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Shutdown, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname,
    getsockopt, shutdown, sockopt,
};

use crate::sys;
use crate::system::{Machine, System};

/// Breaks off every TCP connection that leads out of the guest, but the
/// agent's own with `caller`. What cannot be reached (a process that ends
/// meanwhile) is left to its timeouts.
pub(crate) fn reset(system: &System, caller: Option<SocketAddr>) {
    match system.machine() {
        Machine::Own => {}
        Machine::Shared => return,
    }
    let own = std::process::id().cast_signed();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        let keep = caller.filter(|_| pid == own);
        // It has ended.
        let _ = reset_in(pid, keep);
    }
}

/// Breaks off what one process has.
fn reset_in(pid: i32, keep: Option<SocketAddr>) -> io::Result<()> {
    let process = sys::open_process(pid)?;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (true, Some(number)) = (link.to_string_lossy().starts_with("socket:"), number) else {
            continue;
        };
        // It was closed meanwhile.
        let Ok(socket) = sys::descriptor_of(&process, number) else {
            continue;
        };
        if let Some((local, peer)) = connection(&socket)
            && leads_outside(local.ip(), peer.ip())
            && keep != Some(peer)
        {
            break_off(&socket);
        }
    }
    Ok(())
}

/// Who talks to whom, if it is a TCP connection.
fn connection(socket: &OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    if getsockopt(socket, sockopt::SockType) != Ok(SockType::Stream) {
        return None;
    }
    let number = socket.as_raw_fd();
    let local = internet(&getsockname(number).ok()?)?;
    let peer = internet(&getpeername(number).ok()?)?;
    Some((local, peer))
}

fn internet(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => Some(SocketAddr::V4((*address.as_sockaddr_in()?).into())),
        AddressFamily::Inet6 => Some(SocketAddr::V6((*address.as_sockaddr_in6()?).into())),
        _ => None,
    }
}

/// Whether a connection's other end is beyond this guest.
fn leads_outside(local: IpAddr, peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    !peer.is_loopback() && peer != local.to_canonical()
}

fn break_off(socket: &OwnedFd) {
    if sys::reset_connection(socket.as_fd()).is_err() {
        // Some kernels refuse while a thread is blocked in it; it sees an end
        // instead of a reset then.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
