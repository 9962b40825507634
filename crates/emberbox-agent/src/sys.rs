//! Kernel calls that no crate wraps safely. Each function here is safe to call.
#![expect(
    unsafe_code,
    reason = "ioctls on plain structs, pidfd_open, wait and fork have no safe wrapper"
)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::libc;
use nix::sys::stat::Mode;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `RNDADDENTROPY`, linux/random.h: `_IOW('R', 0x03, int[2])`.
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;

/// `RNDRESEEDCRNG`, linux/random.h: `_IO('R', 0x07)`.
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// `ATF_COM | ATF_PERM`, linux/if_arp.h: a complete entry that never expires.
const ATF_PERMANENT: libc::c_int = 0x02 | 0x04;

/// Which half of a fork this is.
pub(crate) enum Forked {
    Parent { child: i32 },
    Child,
}

/// Forks a process of one thread.
pub(crate) fn fork_single_threaded() -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    assert_eq!(threads, 1, "only a process of one thread may fork");
    // SAFETY: with a single thread no lock can be held by somebody who is
    // missing in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        child => Ok(Forked::Parent { child }),
    }
}

/// Waits for the child `pid`, or any child when `None`; says which ended how.
/// Unlike nix's, it knows real-time signals.
pub(crate) fn wait(pid: Option<i32>) -> io::Result<(i32, ExitStatus)> {
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    match unsafe { libc::waitpid(pid.unwrap_or(-1), &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        ended => Ok((ended, ExitStatus::from_raw(status))),
    }
}

/// A process that need not be our child, for [`descriptor_of`].
pub(crate) fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed. Always close-on-exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    owned(fd)
}

/// A duplicate of another process's descriptor.
pub(crate) fn descriptor_of(process: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed. Always close-on-exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    owned(fd)
}

/// Breaks a TCP connection off: whoever waits for it gets an error
/// (`ECONNRESET`, or `EPIPE` if it was blocked in it), and the peer a reset
/// (connect(2), `AF_UNSPEC`).
pub(crate) fn reset_connection(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr is valid; its family is AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { mem::zeroed() };
    let size = mem::size_of_val(&nobody) as libc::socklen_t;
    // SAFETY: `nobody` is valid for `size` bytes.
    checked(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size) })
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for us; descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A descriptor that becomes readable when the child `pid` ends.
pub(crate) fn watch_process(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: no memory is passed. Always close-on-exec.
    let pidfd = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) })?;
    // SAFETY: an `OwnedFd` stays open and the same for as long as it lives.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(Into::into)
}

/// Our end of a terminal, to be read and written without blocking.
pub(crate) fn watch_terminal(master: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // SAFETY: an `OwnedFd` stays open and the same for as long as it lives.
    unsafe { AsyncFd::register_with_interest(master, interest) }.map_err(Into::into)
}

/// Readable when there are file system events.
pub(crate) fn watch_inotify(inotify: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its one descriptor open until it is dropped.
    unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }.map_err(Into::into)
}

/// Sends a signal to a process group. Unlike nix's, it knows real-time signals.
pub(crate) fn signal_group(group: i32, signal: i32) -> io::Result<()> {
    // 0 and 1 mean the caller's own group and everybody.
    if group <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no memory is passed.
    checked(unsafe { libc::killpg(group, signal) })
}

/// Sets the size of a terminal; its foreground group is told if it is new.
pub(crate) fn set_terminal_size(terminal: BorrowedFd<'_>, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel reads one winsize.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
}

/// The classic umask, whatever this process was started with.
pub(crate) fn set_umask() {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
}

/// Feeds the kernel's random pool, credits every bit, and makes its generator
/// take a new key from it at once.
pub(crate) fn add_entropy(bytes: &[u8; 32]) -> io::Result<()> {
    #[repr(C)]
    struct PoolInfo {
        entropy_count: libc::c_int,
        buf_size: libc::c_int,
        buf: [u8; 32],
    }
    let info = PoolInfo {
        entropy_count: 8 * 32,
        buf_size: 32,
        buf: *bytes,
    };
    let random = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/urandom")?;
    // SAFETY: `PoolInfo` is laid out as rand_pool_info with a buffer of
    // `buf_size` bytes, which the kernel only reads.
    checked(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) })?;
    // SAFETY: takes no argument.
    checked(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) })
}

/// A network interface of the guest, reached through a control socket.
pub(crate) struct Interface {
    socket: UdpSocket,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Interface {
    /// Addresses the interface of this name. It need not exist yet.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let mut field = [0; libc::IFNAMSIZ];
        if name.len() >= field.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in field.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Self {
            socket: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            name: field,
        })
    }

    pub(crate) fn set_address(&self, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
        self.set(libc::SIOCSIFADDR, |r| r.ifr_ifru.ifru_addr = inet(address))?;
        self.set(libc::SIOCSIFNETMASK, |r| {
            r.ifr_ifru.ifru_netmask = inet(mask);
        })
    }

    pub(crate) fn up(&self) -> io::Result<()> {
        // IFF_UP and IFF_RUNNING are below 2^15.
        let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.set(libc::SIOCSIFFLAGS, |r| r.ifr_ifru.ifru_flags = flags)
    }

    pub(crate) fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        self.set(libc::SIOCSIFMTU, |r| r.ifr_ifru.ifru_mtu = mtu.into())
    }

    pub(crate) fn add_default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // SAFETY: an all-zero rtentry is valid: it has no device and no flags.
        let mut route: libc::rtentry = unsafe { mem::zeroed() };
        route.rt_dst = inet(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = inet(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = inet(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        // SAFETY: the kernel reads one rtentry.
        checked(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) })
    }

    /// Enters who answers for `address`, for good.
    pub(crate) fn add_neighbour(&self, address: Ipv4Addr, mac: [u8; 6]) -> io::Result<()> {
        // SAFETY: an all-zero arpreq is valid.
        let mut entry: libc::arpreq = unsafe { mem::zeroed() };
        entry.arp_pa = inet(address);
        entry.arp_ha.sa_family = libc::ARPHRD_ETHER;
        for (to, from) in entry.arp_ha.sa_data.iter_mut().zip(mac) {
            *to = from as libc::c_char;
        }
        entry.arp_flags = ATF_PERMANENT;
        entry.arp_dev = self.name;
        // SAFETY: the kernel reads one arpreq.
        checked(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCSARP, &raw const entry) })
    }

    fn set(&self, request: libc::c_ulong, fill: impl FnOnce(&mut libc::ifreq)) -> io::Result<()> {
        // SAFETY: an all-zero ifreq is valid.
        let mut change: libc::ifreq = unsafe { mem::zeroed() };
        change.ifr_name = self.name;
        fill(&mut change);
        // SAFETY: the kernel reads one ifreq.
        checked(unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw const change) })
    }
}

/// A generic socket address that holds an IPv4 one.
fn inet(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: an all-zero sockaddr is valid.
    let mut generic: libc::sockaddr = unsafe { mem::zeroed() };
    // AF_INET is 2.
    generic.sa_family = libc::AF_INET as libc::sa_family_t;
    // sockaddr_in is port (2 bytes), then the address in network order.
    for (to, from) in generic.sa_data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    generic
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
