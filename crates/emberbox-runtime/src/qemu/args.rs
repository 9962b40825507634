//! QEMU's command line, and the descriptors it inherits.
//!
//! QEMU gets descriptors, never paths of the host. A restored VM must be given
//! exactly the devices its seed had, so both are made by one function.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};

use command_fds::FdMapping;
use emberbox_core::Shape;

use super::{Accelerator, Machine};
use crate::net::GUEST_MAC;
use crate::vmm::guest::{kernel_command_line, mac};

/// First descriptor number passed to QEMU; lower ones are its standard streams
/// and the jail's own.
pub(super) const FIRST_FD: RawFd = 10;

/// The guest console's ring in QEMU's memory: enough for a panic with its
/// trace, and bounded whatever a guest writes.
pub(super) const CONSOLE_RING_KIB: u32 = 64;

/// Descriptors a QEMU process inherits, numbered in order.
#[derive(Default)]
pub(super) struct Inherited(Vec<OwnedFd>);

impl Inherited {
    /// Passes `fd`; returns the number it has in QEMU.
    pub(super) fn add(&mut self, fd: impl Into<OwnedFd>) -> RawFd {
        self.0.push(fd.into());
        // A VM has at most a few dozen layers.
        FIRST_FD + self.0.len() as RawFd - 1
    }

    /// Every descriptor with its number.
    pub(super) fn into_mappings(self) -> Vec<FdMapping> {
        self.0
            .into_iter()
            .enumerate()
            .map(|(i, parent_fd)| FdMapping {
                parent_fd,
                child_fd: FIRST_FD + i as RawFd,
            })
            .collect()
    }
}

/// Where guest memory comes from.
pub(super) enum Memory {
    /// A file of this VM alone.
    OwnFile(RawFd),
    /// A private, copy-on-write view of a seed's memory.
    PrivateFile(RawFd),
}

/// Everything a QEMU command line depends on.
pub(super) struct CommandLine<'a> {
    pub(super) accelerator: Accelerator,
    pub(super) machine: Machine,
    pub(super) shape: Shape,
    pub(super) memory: Memory,
    pub(super) kernel: RawFd,
    /// Absent when restoring: the kernel runs already.
    pub(super) initramfs: Option<RawFd>,
    pub(super) layers: &'a [RawFd],
    pub(super) scratch: RawFd,
    pub(super) tap: RawFd,
    pub(super) control: RawFd,
    pub(super) incoming: Incoming,
}

/// What a QEMU waits for instead of booting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Nothing: it boots.
    Nothing,
    /// A seed's state.
    Seed,
    /// A checkpoint's devices; it stands still when it has them.
    Devices,
}

impl CommandLine<'_> {
    pub(super) fn build(&self) -> Vec<OsString> {
        let mut args = Args::default();
        args.flag("-no-user-config")
            .flag("-nodefaults")
            .flag("-no-reboot")
            .flag("-no-shutdown");
        args.pair("-display", "none");
        args.pair(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        args.pair("-cpu", self.accelerator.cpu_model());
        args.pair("-accel", self.accelerator.argument());
        args.pair(
            "-machine",
            format!(
                "{},memory-backend=ram,dump-guest-core=off,suppress-vmdesc=on",
                self.machine.argument()
            ),
        );
        args.pair("-smp", self.shape.vcpus.to_string());
        args.pair("-m", format!("{}M", self.shape.memory_mib));
        args.pair("-object", self.memory_backend());
        self.control_and_console(&mut args);
        self.boot(&mut args);
        self.devices(&mut args);
        self.incoming(&mut args);
        args.0
    }

    fn incoming(&self, args: &mut Args) {
        match self.incoming {
            Incoming::Nothing => {}
            Incoming::Seed => args.pair("-incoming", "defer"),
            Incoming::Devices => {
                args.pair("-incoming", "defer");
                args.flag("-S");
                // `xen-save-devices-state` writes devices and nothing around
                // them: neither the configuration before nor the description
                // after them that a migration has.
                args.pair("-global", "migration.send-configuration=off");
            }
        }
    }

    fn memory_backend(&self) -> String {
        let size = self.shape.memory_mib;
        let (share, fd) = match self.memory {
            Memory::OwnFile(fd) => ("on", fd),
            Memory::PrivateFile(fd) => ("off", fd),
        };
        format!(
            "memory-backend-file,id=ram,size={size}M,merge=off,share={share},\
             mem-path=/proc/self/fd/{fd}"
        )
    }

    fn control_and_console(&self, args: &mut Args) {
        args.pair(
            "-chardev",
            format!("socket,id=control,fd={},server=on,wait=off", self.control),
        );
        args.pair("-mon", "chardev=control,mode=control");
        args.pair(
            "-chardev",
            format!("ringbuf,id=console,size={CONSOLE_RING_KIB}k"),
        );
        args.pair("-serial", "chardev:console");
    }

    fn boot(&self, args: &mut Args) {
        args.pair("-kernel", format!("/proc/self/fd/{}", self.kernel));
        if let Some(initramfs) = self.initramfs {
            args.pair("-initrd", format!("/proc/self/fd/{initramfs}"));
            args.pair("-append", self.kernel_command_line());
        }
    }

    fn kernel_command_line(&self) -> String {
        let mut words = vec![kernel_command_line(self.layers.len())];
        words.extend(self.accelerator.kernel_arguments().map(str::to_owned));
        words.join(" ")
    }

    fn devices(&self, args: &mut Args) {
        for (index, layer) in self.layers.iter().enumerate() {
            args.disk(&format!("layer{index}"), *layer, "read-only=on");
        }
        // The disk dies with its sandbox, so nothing needs to reach the platter;
        // what a snapshot copies is in the page cache.
        args.disk(
            "scratch",
            self.scratch,
            "read-only=off,cache.no-flush=on,discard=unmap",
        );
        args.pair("-netdev", format!("tap,id=net,fd={}", self.tap));
        args.pair(
            "-device",
            format!("virtio-net-pci,netdev=net,mac={},romfile=", mac(GUEST_MAC)),
        );
        args.pair("-object", "rng-random,id=entropy,filename=/dev/urandom");
        args.pair("-device", "virtio-rng-pci,rng=entropy");
        // A new id at every start tells the guest's kernel that it was restored.
        args.pair("-device", "vmgenid,guid=auto");
    }
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.push(flag.into());
        self.0.push(value.into());
    }

    fn disk(&mut self, id: &str, fd: RawFd, options: &str) {
        // The set's number only has to be unique: the descriptor's own will do.
        self.pair("-add-fd", format!("fd={fd},set={fd}"));
        let file = format!("file.driver=file,file.filename=/dev/fdset/{fd},file.locking=off");
        self.pair(
            "-blockdev",
            format!("driver=raw,node-name={id},{file},{options}"),
        );
        self.pair("-device", format!("virtio-blk-pci,drive={id},num-queues=1"));
    }
}
