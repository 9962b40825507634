//! Our side of a pseudo-terminal.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use emberbox_guest::TerminalSize;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// Bytes of one read: the kernel gives no more than a page or a few.
const READ: usize = 16 * 1024;

/// No process has the other side open.
pub(super) struct Closed;

/// Our end of a terminal.
pub(super) struct Pty {
    master: AsyncFd<OwnedFd>,
    /// Whether no process has the other side open. Ours stays: closing it
    /// hangs up on a shell that is just ending by itself.
    closed: bool,
    size: TerminalSize,
}

impl Pty {
    /// A new terminal, and the path a shell opens it by.
    pub(super) fn open(size: TerminalSize) -> io::Result<(Self, CString)> {
        // musl and glibc give the flags to the kernel as they are.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = CString::new(ptsname_r(&master)?)?;
        sys::set_terminal_size(master.as_fd(), size.cols, size.rows)?;
        let pty = Self {
            master: sys::watch_terminal(master.as_fd().try_clone_to_owned()?)?,
            closed: false,
            size,
        };
        Ok((pty, path))
    }

    /// Changes the size. Programs are told, also when it is the same: whoever
    /// looks from now on has to see a whole screen.
    pub(super) fn resize(&mut self, size: TerminalSize) {
        let master = self.master.get_ref();
        if size != self.size {
            // The kernel tells the foreground group.
            let _ = sys::set_terminal_size(master.as_fd(), size.cols, size.rows);
            self.size = size;
        } else if let Ok(group) = unistd::tcgetpgrp(master) {
            // A group that ended just now needs no screen.
            let _ = sys::signal_group(group.as_raw(), nix::libc::SIGWINCH);
        }
    }

    pub(super) fn size(&self) -> TerminalSize {
        self.size
    }

    pub(super) fn is_open(&self) -> bool {
        !self.closed
    }

    /// Waits for output and takes some; none when there was none after all.
    /// Cancel-safe.
    pub(super) async fn read(&self) -> Result<Bytes, Closed> {
        if self.closed {
            return std::future::pending().await;
        }
        let mut guard = self.master.readable().await.map_err(|_going_down| Closed)?;
        let mut buffer = vec![0; READ];
        let read = guard.try_io(|master| Ok(unistd::read(master.get_ref(), &mut buffer)?));
        let read = match read {
            Ok(Ok(read @ 1..)) => read,
            Err(_would_block) => 0,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => 0,
            // Linux says EIO when nobody has the other side open.
            Ok(Ok(0) | Err(_)) => return Err(Closed),
        };
        buffer.truncate(read);
        Ok(buffer.into())
    }

    /// The other side is closed: there is nothing to read or write any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Output that is there now, if any.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        let master = self.master.get_ref();
        let mut buffer = vec![0; READ];
        let read = unistd::read(master, &mut buffer).unwrap_or(0);
        buffer.truncate(read);
        (read > 0).then(|| buffer.into())
    }

    /// Types some of `data`; says how much. Cancel-safe.
    pub(super) async fn write(&self, data: &[u8]) -> usize {
        let Ok(mut guard) = self.master.writable().await else {
            return data.len();
        };
        match guard.try_io(|master| Ok(unistd::write(master.get_ref(), data)?)) {
            Ok(Ok(written)) => written,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(_would_block) => 0,
            // Nobody is there to read it.
            Ok(Err(_)) => data.len(),
        }
    }
}
