//! Taking an identity: everything that tells two restores of one seed apart, or
//! the lives of one guest.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use emberbox_guest::{GuestError, GuestErrorCode, Identity, NewName, Rehearsal, Revival};
use nix::libc;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::sys::{self, Interface};
use crate::system::{Machine, System};

/// The guest's only network device.
pub(crate) const NETWORK_DEVICE: &str = "eth0";

/// The files that say who a guest is.
pub(crate) const FILES: [&str; 3] = ["/etc/hostname", HOSTS, "/etc/machine-id"];

const HOSTS: &str = "/etc/hosts";

/// What every guest calls itself.
const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";

/// Longest host name Linux takes (`HOST_NAME_MAX`).
const HOSTNAME_LENGTH: usize = 64;

/// Where D-Bus looks for a machine id first.
const DBUS_MACHINE_ID: &str = "/var/lib/dbus/machine-id";

/// Puts all of `identity` but its token and environment into force.
pub(crate) fn apply(system: &System, identity: &Identity) -> Result<(), GuestError> {
    let moment = Moment {
        entropy: &identity.entropy,
        unix_time_ns: identity.unix_time_ns,
        mtu: identity.mtu,
    };
    let name = NewName {
        hostname: identity.hostname.clone(),
        machine_id: identity.machine_id,
    };
    put_in_force(system, &moment, Some(&name))
}

/// Puts all of `revival` but its token and environment into force.
pub(crate) fn renew(system: &System, revival: &Revival) -> Result<(), GuestError> {
    let moment = Moment {
        entropy: &revival.entropy,
        unix_time_ns: revival.unix_time_ns,
        mtu: revival.mtu,
    };
    put_in_force(system, &moment, revival.name.as_ref())
}

/// Does all that [`apply`] does, with no name of anybody's, and clears what
/// names the guest again.
pub(crate) fn rehearse(system: &System, rehearsal: &Rehearsal) -> Result<(), GuestError> {
    let moment = Moment {
        entropy: &rehearsal.entropy,
        unix_time_ns: rehearsal.unix_time_ns,
        mtu: rehearsal.mtu,
    };
    let nobody = NewName {
        hostname: "localhost".to_owned(),
        machine_id: [0; 16],
    };
    put_in_force(system, &moment, Some(&nobody))?;
    clear(system).map_err(|error| failed("clear the identity", &error))
}

/// What is new at the beginning of every life.
struct Moment<'a> {
    entropy: &'a [u8; 32],
    unix_time_ns: u64,
    mtu: u16,
}

fn put_in_force(
    system: &System,
    moment: &Moment<'_>,
    name: Option<&NewName>,
) -> Result<(), GuestError> {
    if let Some(name) = name {
        check_hostname(&name.hostname)?;
    }
    match system.machine() {
        Machine::Own => {
            apply_to_kernel(moment)?;
            if let Some(name) = name {
                nix::unistd::sethostname(&name.hostname)
                    .map_err(|error| failed("set the host name", &error.into()))?;
            }
        }
        Machine::Shared => {}
    }
    name.map_or(Ok(()), |name| write_name(system, name))
}

fn write_name(system: &System, name: &NewName) -> Result<(), GuestError> {
    let NewName {
        hostname: name,
        machine_id,
    } = name;
    let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost\n");
    let machine_id: String = machine_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let machine_id = format!("{machine_id}\n");
    // D-Bus may keep a copy of its own, which would be the same in every fork.
    let dbus = fs::symlink_metadata(system.path(DBUS_MACHINE_ID));
    let dbus = dbus.is_ok_and(|found| found.is_file());
    let dbus = dbus.then(|| (DBUS_MACHINE_ID, machine_id.clone()));
    let files = [
        ("/etc/hostname", format!("{name}\n")),
        ("/etc/hosts", hosts),
        ("/etc/machine-id", machine_id),
    ];
    for (path, content) in files.into_iter().chain(dbus) {
        write_plain(&system.path(path), content.as_bytes())
            .map_err(|error| failed(format_args!("write {path}"), &error))?;
    }
    Ok(())
}

/// Makes the files of an identity regular files on the scratch disk that say
/// nothing, so that a claim only has to fill them, and a template's own do not
/// show.
pub(crate) fn clear(system: &System) -> io::Result<()> {
    for path in FILES {
        // A template's app may speak to itself before there is a claim.
        let content = if path == HOSTS { LOCALHOST } else { "" };
        write_plain(&system.path(path), content.as_bytes())?;
    }
    // Saved randomness would be the same in every restore.
    for path in [
        "/var/lib/systemd/random-seed",
        "/var/lib/urandom/random-seed",
        DBUS_MACHINE_ID,
        "/root/.bash_history",
    ] {
        match fs::remove_file(system.path(path)) {
            Err(error) if !is_missing(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Writes a regular file, also where a symbolic link stood.
pub(crate) fn write_plain(path: &Path, content: &[u8]) -> io::Result<()> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    };
    let mut file = match open() {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            fs::remove_file(path)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(content)
}

fn apply_to_kernel(moment: &Moment<'_>) -> Result<(), GuestError> {
    sys::add_entropy(moment.entropy).map_err(|error| failed("add entropy", &error))?;
    set_kernel_clock(moment.unix_time_ns)?;
    Interface::new(NETWORK_DEVICE)
        .and_then(|interface| interface.set_mtu(moment.mtu))
        .map_err(|error| failed("set the MTU", &error))
}

/// Sets the wall clock, which stood still with the vCPUs.
pub(crate) fn set_clock(system: &System, unix_time_ns: u64) -> Result<(), GuestError> {
    match system.machine() {
        Machine::Own => set_kernel_clock(unix_time_ns),
        Machine::Shared => Ok(()),
    }
}

fn set_kernel_clock(unix_time_ns: u64) -> Result<(), GuestError> {
    let seconds = unix_time_ns / 1_000_000_000;
    let nanoseconds = unix_time_ns % 1_000_000_000;
    // u64 nanoseconds hold under 2^35 seconds, so neither cast cuts.
    let time = TimeSpec::new(seconds as i64, nanoseconds as i64);
    clock_settime(ClockId::CLOCK_REALTIME, time)
        .map_err(|error| failed("set the clock", &error.into()))
}

fn check_hostname(name: &str) -> Result<(), GuestError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > HOSTNAME_LENGTH || !name.bytes().all(valid) {
        return Err(GuestError::new(
            GuestErrorCode::Protocol,
            "the host name is empty, too long or has other than letters, digits, '-', '.', '_'",
        ));
    }
    Ok(())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failed(doing: impl std::fmt::Display, error: &io::Error) -> GuestError {
    GuestError::new(GuestErrorCode::Io, format_args!("cannot {doing}: {error}"))
}

#[cfg(test)]
mod tests;
