//! Whether KVM really works here.
//!
//! `/dev/kvm` may exist, open and even run a few instructions, and still hang
//! a real kernel (nested or emulated virtualisation). So a real VM is booted
//! with the kernel that will be used, and only its word counts.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::engine::BootImages;

/// What the agent says on its console when it was booted to be probed.
const WORD: &str = "EMBERBOX-PROBE-OK";

/// A kernel on working KVM says it within a second.
const DEADLINE: Duration = Duration::from_secs(15);

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

/// Boots a VM on KVM with these images and says whether it came up.
pub async fn kvm(qemu: &Path, images: &BootImages) -> KvmVerdict {
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => {}
        Err(error) => return KvmVerdict::no(format!("/dev/kvm cannot be opened: {error}")),
    }
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
        .args([
            "-serial",
            "stdio",
            "-append",
            "console=ttyS0 quiet panic=-1 emberbox.probe",
        ])
        .arg("-kernel")
        .arg(&images.kernel)
        .arg("-initrd")
        .arg(&images.initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return KvmVerdict::no(format!("QEMU cannot be started: {error}")),
    };
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return KvmVerdict::no("QEMU's output cannot be read");
    };
    let heard = timeout(
        DEADLINE,
        hears_the_word(BufReader::new(stdout.take(MAX_CONSOLE))),
    )
    .await;
    // Dead or not, it is over; its exit is waited for so that nothing is left.
    let _ = child.kill().await;
    match heard {
        Ok(true) => KvmVerdict {
            usable: true,
            reason: "a probe VM booted".to_owned(),
        },
        Ok(false) => {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said).await;
            let said = said
                .lines()
                .next()
                .unwrap_or("it ended without a word")
                .to_owned();
            KvmVerdict::no(format!("/dev/kvm exists, but a probe VM died: {said}"))
        }
        Err(_elapsed) => KvmVerdict::no(format!(
            "/dev/kvm exists, but a probe VM did not boot within {} s: \
             virtualisation does not work on this machine",
            DEADLINE.as_secs()
        )),
    }
}

async fn hears_the_word(console: impl tokio::io::AsyncBufRead + Unpin) -> bool {
    let mut lines = console.split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        if String::from_utf8_lossy(&line).contains(WORD) {
            return true;
        }
    }
    false
}
