//! Whether KVM really works here.
//!
//! `/dev/kvm` may exist, open and even run a few instructions, and still hang
//! a real kernel (nested or emulated virtualisation). So a real VM is booted
//! with the kernel that will be used, and only its word counts.

use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::engine::BootImages;
use crate::firecracker::Programs;

/// What the agent says on its console when it was booted to be probed.
const WORD: &str = "EMBERBOX-PROBE-OK";

/// How long a probe VM may take, unless configured: on working KVM a kernel
/// says the word within a second.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// What has to work.
const DEVICE: &str = "/dev/kvm";

/// Console output that is looked at; more means that something loops.
const MAX_CONSOLE: u64 = 256 * 1024;

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmVerdict {
    /// Whether a VM really booted.
    pub usable: bool,
    /// Why, for people.
    pub reason: String,
}

impl KvmVerdict {
    fn no(reason: impl Into<String>) -> Self {
        Self {
            usable: false,
            reason: reason.into(),
        }
    }
}

/// What a probed kernel is told, whichever VMM boots it.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 emberbox.probe";

/// Whether there is a `/dev/kvm` that this process may open; `Err` says what to
/// do. Costs nothing, so nobody need remember it.
pub fn device() -> Result<(), KvmVerdict> {
    device_at(Path::new(DEVICE))
}

fn device_at(device: &Path) -> Result<(), KvmVerdict> {
    let shown = device.display();
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(device);
    let Err(error) = opened else {
        return Ok(());
    };
    let todo = match error.kind() {
        ErrorKind::NotFound => {
            "load kvm_intel or kvm_amd, and switch virtualisation on in the firmware, or of the \
             VM that this machine is"
        }
        ErrorKind::PermissionDenied => {
            "run as root, or as a member of the group that the device belongs to"
        }
        _ => "look at what the kernel says of kvm",
    };
    Err(KvmVerdict::no(format!(
        "{shown} cannot be opened: {error}: {todo}"
    )))
}

/// Boots a VM of QEMU's on KVM with these images and says whether it came up
/// before the deadline.
pub async fn kvm(qemu: &Path, images: &BootImages, deadline: Duration) -> KvmVerdict {
    let mut command = Command::new(qemu);
    command
        .args([
            "-no-user-config",
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args([
            "-machine",
            "pc,accel=kvm,usb=off",
            "-cpu",
            "host",
            "-m",
            "256M",
        ])
        .args([
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
        ])
        .args(["-serial", "stdio", "-append", COMMAND_LINE])
        .arg("-kernel")
        .arg(&images.kernel)
        .arg("-initrd")
        .arg(&images.initramfs);
    boots(command, deadline).await
}

/// Boots a VM of Firecracker's with these images and says whether it came up
/// before the deadline. Only our own kernel and agent run in it, so it needs no
/// jail.
pub async fn firecracker(
    programs: &Programs,
    images: &BootImages,
    deadline: Duration,
) -> KvmVerdict {
    let prepared = programs
        .version()
        .map_err(|error| chain(&error))
        .and_then(|version| version.kernel(&images.kernel))
        .and_then(|kernel| machine(&kernel, images).map_err(|error| error.to_string()));
    let machine = match prepared {
        Ok(machine) => machine,
        Err(reason) => return KvmVerdict::no(reason),
    };
    let mut command = std::process::Command::new(&programs.firecracker);
    command.args(["--no-api", "--config-file"]);
    command.arg(format!("/proc/self/fd/{MACHINE_FD}"));
    let mapping = FdMapping {
        parent_fd: machine,
        child_fd: MACHINE_FD,
    };
    if command.fd_mappings(vec![mapping]).is_err() {
        return KvmVerdict::no("a probe VM cannot be described");
    }
    boots(command.into(), deadline).await
}

/// The descriptor number of a probe VM's description.
const MACHINE_FD: i32 = 3;

/// A Firecracker's machine, as its configuration file has it.
fn machine(kernel: &Path, images: &BootImages) -> std::io::Result<OwnedFd> {
    let description = json!({
        "boot-source": {
            "kernel_image_path": kernel,
            "initrd_path": images.initramfs,
            "boot_args": format!("{COMMAND_LINE} reboot=k pci=off"),
        },
        "drives": [],
        "machine-config": { "vcpu_count": 1, "mem_size_mib": 256 },
    });
    let mut file = std::fs::File::from(memfd_create("emberbox-probe", MemfdFlags::CLOEXEC)?);
    file.write_all(description.to_string().as_bytes())?;
    Ok(file.into())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Whether the VM of this command comes up. It is over when this returns.
async fn boots(command: Command, deadline: Duration) -> KvmVerdict {
    match device() {
        Ok(()) => speaks(command, deadline).await,
        Err(verdict) => verdict,
    }
}

async fn speaks(mut command: Command, deadline: Duration) -> KvmVerdict {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return KvmVerdict::no(format!("the VMM cannot be started: {error}")),
    };
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return KvmVerdict::no("the VMM's output cannot be read");
    };
    let heard = timeout(
        deadline,
        hears_the_word(BufReader::new(stdout.take(MAX_CONSOLE))),
    )
    .await;
    // Dead or not, it is over; its exit is waited for so that nothing is left.
    let _ = child.kill().await;
    match heard {
        Ok(Heard::Word) => KvmVerdict {
            usable: true,
            reason: "a probe VM booted".to_owned(),
        },
        Ok(Heard::Last(line)) => {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said).await;
            let said = said.lines().next().map(str::to_owned).or(line);
            let said = said.unwrap_or_else(|| "it ended without a word".to_owned());
            KvmVerdict::no(format!("/dev/kvm exists, but a probe VM died: {said}"))
        }
        Err(_elapsed) => KvmVerdict::no(format!(
            "/dev/kvm exists, but a probe VM did not boot within {} s: virtualisation does not \
             work on this machine, or is so slow that engine.probe_timeout_sec has to be raised",
            deadline.as_secs()
        )),
    }
}

/// What was heard before the VM fell silent.
enum Heard {
    Word,
    /// Not the word; its last line that was an error, or else its last.
    Last(Option<String>),
}

async fn hears_the_word(console: impl tokio::io::AsyncBufRead + Unpin) -> Heard {
    let mut lines = console.split(b'\n');
    let mut last: Option<String> = None;
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if line.contains(WORD) {
            return Heard::Word;
        }
        // What a VMM says after its error is that it ends.
        let settled = last.as_ref().is_some_and(|last| is_error(last));
        if !line.is_empty() && (!settled || is_error(&line)) {
            last = Some(line);
        }
    }
    Heard::Last(last)
}

/// As Firecracker marks them in its log.
fn is_error(line: &str) -> bool {
    line.contains(":ERROR]") || line.contains("Error")
}

#[cfg(test)]
mod tests;
