//! TAP devices: the one place that needs `ioctl`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// The TAP's name inside a slot's namespace.
pub(crate) const NAME: &str = "tap0";

/// Makes the TAP in the namespace of the calling thread, for a VMM that runs as
/// `uid` to open by name. It stays until the namespace ends.
pub(super) fn create(uid: u32) -> io::Result<()> {
    let file = attach()?;
    sys::give_to(&file, uid)?;
    sys::persist(&file)
}

/// Opens the TAP in the namespace of the calling thread, as a VMM does. One
/// open at a time.
pub(super) fn open() -> io::Result<OwnedFd> {
    Ok(attach()?.into())
}

fn attach() -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    sys::attach(
        &file,
        NAME,
        libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR,
    )?;
    rustix::io::ioctl_fionbio(&file, true)?;
    Ok(file)
}

#[expect(unsafe_code, reason = "nothing but ioctl makes a TAP")]
mod sys {
    use super::{AsRawFd, File, io, libc};

    mod raw {
        use nix::libc;

        // linux/if_tun.h declares all with `int`, whatever they point to.
        nix::ioctl_write_ptr_bad!(
            tunsetiff,
            nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
            libc::ifreq
        );
        nix::ioctl_write_int_bad!(
            tunsetpersist,
            nix::request_code_write!(b'T', 203, size_of::<libc::c_int>())
        );
        nix::ioctl_write_int_bad!(
            tunsetowner,
            nix::request_code_write!(b'T', 204, size_of::<libc::c_int>())
        );
    }

    pub(super) fn attach(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
        // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        assert!(name.len() < request.ifr_name.len(), "a legal device name");
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags)
            .map_err(|_too_wide| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the descriptor is open for the call and the pointer is to an
        // initialised `ifreq` with a terminated name, as TUNSETIFF reads it.
        unsafe { raw::tunsetiff(file.as_raw_fd(), &raw const request) }?;
        Ok(())
    }

    pub(super) fn give_to(file: &File, uid: u32) -> io::Result<()> {
        // The kernel takes the argument for a uid_t again.
        let uid = uid.cast_signed();
        // SAFETY: the descriptor is open for the call; the argument is a number.
        unsafe { raw::tunsetowner(file.as_raw_fd(), uid) }?;
        Ok(())
    }

    pub(super) fn persist(file: &File) -> io::Result<()> {
        // SAFETY: the descriptor is open for the call; the argument is a number.
        unsafe { raw::tunsetpersist(file.as_raw_fd(), 1) }?;
        Ok(())
    }
}
