//! Judging: what is unsafe, what only costs, and what to do about either.
//!
//! What the kernel does not tell is unsafe where it matters: nobody can be
//! protected by a setting that cannot be seen.

use clap::ValueEnum;
use emberbox_host::JailerChoice;
use serde::Serialize;

use super::facts::{Guarded, Host};
use crate::doctor::report::{Chosen, Report};

/// What is checked, by the name an operator accepts it under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Item {
    /// Sandboxes can run at all.
    Sandboxes,
    /// Hardware keeps guests in.
    Engine,
    /// Firecracker is confined by its jailer.
    Jailer,
    /// Firecracker's own system call filters are used.
    Seccomp,
    /// The host's kernel.
    Kernel,
    /// Weaknesses of the processor.
    Vulnerabilities,
    /// Guests share cores.
    Smt,
    /// Guests make VMs.
    Nested,
    /// Guests' equal pages are merged.
    Ksm,
    /// Guests' memory goes to a disk.
    Swap,
    /// A VMM's memory is kept when it crashes.
    CoreDumps,
    /// VMs are limited from outside.
    Cgroups,
    /// Who may use /dev/kvm.
    KvmDevice,
    /// The VMs' users are nobody else's.
    Users,
    /// The server's privileges.
    Privileges,
    /// Who may change what the server trusts.
    Paths,
    /// Where disks of sandboxes are.
    DataDir,
    /// Memory that is set aside.
    HugePages,
    /// Memory that is rounded up.
    TransparentHugePages,
    /// Keys on the network.
    Listen,
}

/// How one item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Safe,
    /// Costs memory, disk or time, or makes an attack easier that something
    /// else prevents.
    Advice,
    /// Guests or their data are not protected.
    Unsafe,
    /// Unsafe, and the operator said that it is meant so.
    Accepted,
}

/// One item, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) item: Item,
    pub(super) verdict: Verdict,
    pub(super) found: String,
    /// What to do; nothing when it is safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

/// What one judgement says before anybody accepts it.
struct Judged {
    verdict: Verdict,
    found: String,
    fix: Option<String>,
}

fn safe(found: impl Into<String>) -> Judged {
    Judged {
        verdict: Verdict::Safe,
        found: found.into(),
        fix: None,
    }
}

fn advice(found: impl Into<String>, fix: impl Into<String>) -> Judged {
    Judged {
        verdict: Verdict::Advice,
        found: found.into(),
        fix: Some(fix.into()),
    }
}

fn not_safe(found: impl Into<String>, fix: impl Into<String>) -> Judged {
    Judged {
        verdict: Verdict::Unsafe,
        found: found.into(),
        fix: Some(fix.into()),
    }
}

/// All items, in the order in which they are to be mended.
pub(super) fn all(doctor: &Report, host: &Host, accepted: &[Item]) -> Vec<Check> {
    Item::value_variants()
        .iter()
        .map(|&item| {
            let judged = judge(item, doctor, host);
            let verdict = match judged.verdict {
                Verdict::Unsafe if accepted.contains(&item) => Verdict::Accepted,
                verdict => verdict,
            };
            Check {
                item,
                verdict,
                found: judged.found,
                fix: judged.fix,
            }
        })
        .collect()
}

fn judge(item: Item, doctor: &Report, host: &Host) -> Judged {
    match item {
        Item::Sandboxes => sandboxes(doctor),
        Item::Engine => engine(doctor),
        Item::Jailer => jailer(doctor),
        Item::Seccomp => seccomp(doctor, host),
        Item::Kernel => kernel(doctor, host),
        Item::Vulnerabilities => vulnerabilities(host),
        Item::Smt => smt(host),
        Item::Nested => nested(host),
        Item::Ksm => ksm(host),
        Item::Swap => swap(host),
        Item::CoreDumps => core_dumps(host),
        Item::Cgroups => cgroups(doctor),
        Item::KvmDevice => kvm_device(doctor, host),
        Item::Users => users(host),
        Item::Privileges => privileges(host),
        Item::Paths => paths(host),
        Item::DataDir => data_dir(doctor, host),
        Item::HugePages => huge_pages(host),
        Item::TransparentHugePages => transparent_huge_pages(host),
        Item::Listen => listen(host),
    }
}

fn sandboxes(doctor: &Report) -> Judged {
    if doctor.ok {
        return safe("can run");
    }
    not_safe(
        "cannot run here yet",
        "do what `emberbox doctor` says without --production",
    )
}

fn is_firecracker(doctor: &Report) -> bool {
    doctor
        .engine
        .as_ref()
        .is_some_and(|engine| engine.name == "firecracker")
}

fn engine(doctor: &Report) -> Judged {
    match &doctor.engine {
        Some(Chosen {
            name,
            version,
            accelerator: "kvm",
        }) => safe(format!("{name} {version} with KVM")),
        // QEMU's own security policy: only virtualisation is a wall.
        Some(Chosen { name, version, .. }) => not_safe(
            format!(
                "{name} {version} in software emulation, whose makers do not promise to keep \
                 guests in"
            ),
            "use a machine whose KVM works; `emberbox doctor` says why this one's does not",
        ),
        None => not_safe("there is none", "do what `emberbox doctor` says"),
    }
}

fn jailer(doctor: &Report) -> Judged {
    match (is_firecracker(doctor), doctor.facts.firecracker.jailer) {
        (true, JailerChoice::Off) => {
            not_safe("off: Firecracker runs as root", "set engine.jailer to on")
        }
        (true, JailerChoice::On) => safe("on"),
        (false, JailerChoice::On | JailerChoice::Off) => {
            safe("not needed: QEMU is confined by Emberbox")
        }
    }
}

fn seccomp(doctor: &Report, host: &Host) -> Judged {
    if is_firecracker(doctor) && host.own_seccomp_filter {
        return advice(
            "engine.seccomp_filter replaces the filters that Firecracker's makers test",
            "install a release of Firecracker, which has them built in, and remove the setting",
        );
    }
    safe("the VMM's own filters")
}

/// The oldest that Firecracker's makers ever tested.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Those they test now (its kernel-policy.md).
const TESTED_KERNELS: [(u32, u32); 3] = [(5, 10), (6, 1), (6, 18)];

fn kernel(doctor: &Report, host: &Host) -> Judged {
    let release = &host.kernel;
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return not_safe(
            format!("the version {release:?} cannot be read"),
            "boot a kernel of your distribution",
        );
    };
    if (major, minor) < OLDEST_KERNEL {
        return not_safe(
            format!("{release} is too old"),
            "boot a kernel that is maintained, 5.10 or newer",
        );
    }
    if is_firecracker(doctor) && !TESTED_KERNELS.contains(&(major, minor)) {
        return advice(
            format!("{release} is none that Firecracker is tested on"),
            "prefer 5.10, 6.1 or 6.18, kept up to date",
        );
    }
    safe(release)
}

fn vulnerabilities(host: &Host) -> Judged {
    if host.vulnerabilities.is_empty() {
        return not_safe(
            "the kernel does not say what its processor is vulnerable to",
            "boot a kernel that shows /sys/devices/system/cpu/vulnerabilities",
        );
    }
    let open: Vec<_> = host
        .vulnerabilities
        .iter()
        .filter(|it| it.state.starts_with("Vulnerable") || it.state.starts_with("KVM: Vulnerable"))
        .map(|it| format!("{} ({})", it.name, it.state))
        .collect();
    if open.is_empty() {
        return safe("all mitigated");
    }
    not_safe(
        open.join(", "),
        "update microcode and kernel, and remove mitigations=off from its command line; in a VM, \
         ask who runs its host",
    )
}

fn smt(host: &Host) -> Judged {
    match host.smt {
        Some(false) => safe("off"),
        Some(true) => not_safe(
            "on: guests of two tenants share a core and its caches",
            "echo off > /sys/devices/system/cpu/smt/control, and nosmt on the kernel's command \
             line",
        ),
        None => not_safe(
            "the kernel does not say whether two threads share a core",
            "switch it off in the firmware",
        ),
    }
}

fn nested(host: &Host) -> Judged {
    match host.nested {
        Some(true) => advice(
            "on: guests can attack KVM as makers of VMs, too",
            "options kvm_intel nested=0 (or kvm_amd) in /etc/modprobe.d/emberbox.conf",
        ),
        Some(false) => safe("off"),
        None => safe("neither kvm_intel nor kvm_amd is loaded"),
    }
}

fn ksm(host: &Host) -> Judged {
    match host.ksm {
        Some(true) => not_safe(
            "on: a guest can find out what is in another's memory",
            "echo 2 > /sys/kernel/mm/ksm/run, and switch off what switches it on (ksmtuned)",
        ),
        Some(false) | None => safe("off"),
    }
}

fn swap(host: &Host) -> Judged {
    // It stays in this machine's memory.
    let disks: Vec<_> = host
        .swap
        .iter()
        .filter(|area| !area.path.starts_with("/dev/zram"))
        .map(|area| format!("{} ({} MiB)", area.path, area.bytes >> 20))
        .collect();
    if disks.is_empty() {
        return safe("none");
    }
    not_safe(
        format!("{}: memory of guests gets onto a disk", disks.join(", ")),
        "swapoff -a, and remove it from /etc/fstab",
    )
}

fn core_dumps(host: &Host) -> Judged {
    match host.core_pattern.as_deref() {
        // core(5): a limit of 0 is not obeyed for a program.
        Some(pattern) if pattern.starts_with('|') => not_safe(
            format!(
                "go to {}: a VMM that crashes hands over its guest's memory",
                &pattern[1..]
            ),
            "sysctl -w kernel.core_pattern=core, and the same in /etc/sysctl.d",
        ),
        Some(_) => safe("VMMs leave none"),
        None => not_safe("where they go cannot be read", "mount /proc"),
    }
}

fn cgroups(doctor: &Report) -> Judged {
    match doctor.facts.cgroups.as_str() {
        "none" => not_safe(
            "none usable: one VM can take this machine's memory and processors",
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
        version => safe(version),
    }
}

fn kvm_device(doctor: &Report, host: &Host) -> Judged {
    let Some(mode) = host.kvm_device else {
        return not_safe(
            "there is no /dev/kvm",
            "modprobe kvm_intel or kvm_amd; switch virtualisation on in the firmware",
        );
    };
    let emulated = doctor
        .engine
        .as_ref()
        .is_some_and(|it| it.accelerator != "kvm");
    if emulated {
        return safe("not used");
    }
    let mode = mode.0 & 0o777;
    let others = mode & 0o006;
    match (is_firecracker(doctor), others) {
        (true, 0) => safe(format!("mode {mode:03o}")),
        (true, _) => advice(
            format!("mode {mode:03o}: every user of this machine can attack KVM"),
            "chmod 660 /dev/kvm, and the same in a udev rule: jailers make their own",
        ),
        (false, 0o006) => safe(format!("mode {mode:03o}, which QEMU's many users need")),
        (false, _) => not_safe(
            format!("mode {mode:03o}: QEMU's VMs, each a user of its own, cannot open it"),
            "chmod 666 /dev/kvm, and the same in a udev rule; or install Firecracker, which does \
             not need it",
        ),
    }
}

fn users(host: &Host) -> Judged {
    let (first, last) = host.vm_users;
    let taken: Vec<_> = host
        .users_overlap
        .iter()
        .chain(&host.strangers)
        .map(String::as_str)
        .collect();
    if taken.is_empty() {
        return safe(format!("{first} to {last} are the VMs' alone"));
    }
    not_safe(
        format!(
            "{first} to {last} are not the VMs' alone: {}",
            taken.join(", ")
        ),
        "give these users and ranges other numbers, and end their processes",
    )
}

fn privileges(host: &Host) -> Judged {
    if host.lacks.is_empty() {
        return safe("all that a server needs");
    }
    not_safe(
        format!("{} missing", host.lacks.join(", ")),
        "run as root with the capabilities of packaging/systemd/emberbox.service",
    )
}

fn paths(host: &Host) -> Judged {
    let weak: Vec<_> = host
        .guarded
        .iter()
        .filter_map(|Guarded { what, path, weak }| {
            let weak = weak.as_ref()?;
            Some(format!("{what} {} by {}", path.display(), weak.display()))
        })
        .collect();
    if weak.is_empty() {
        return safe("only root can change what the server runs and reads");
    }
    not_safe(
        format!("others than root can replace: {}", weak.join(", ")),
        "chown root and chmod go-w what is named last in each",
    )
}

fn data_dir(doctor: &Report, host: &Host) -> Judged {
    let dir = &host.data_dir;
    let path = dir.path.display();
    if dir.mode.is_some_and(|mode| mode.0 & 0o077 != 0) {
        return not_safe(
            format!("{path} is open to others than its owner"),
            format!("chmod 700 {path}"),
        );
    }
    if is_firecracker(doctor) && dir.devices == Some(false) {
        return not_safe(
            format!("{path} is mounted nodev: no jailer can make /dev/kvm there"),
            "mount it without nodev",
        );
    }
    if dir.with_home == Some(false) {
        return advice(
            format!("{path} and EMBERBOX_HOME are on two file systems: disks are copied"),
            "put both on one",
        );
    }
    match dir.reflink {
        Some(false) => advice(
            format!("{path} has no reflinks: what disks and snapshots hold is copied"),
            "use XFS (mkfs.xfs -m reflink=1) or Btrfs",
        ),
        Some(true) => safe(format!("{path}, with reflinks")),
        None => safe(path.to_string()),
    }
}

fn huge_pages(host: &Host) -> Judged {
    match host.huge_page_bytes >> 20 {
        0 => safe("none set aside"),
        mib => advice(
            format!("{mib} MiB are set aside, which no sandbox can use"),
            "sysctl -w vm.nr_hugepages=0",
        ),
    }
}

fn transparent_huge_pages(host: &Host) -> Judged {
    match host.transparent_huge_pages.as_deref() {
        Some("always") => advice(
            "always: a page that a guest writes may cost 2 MiB",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(other) => safe(other),
        None => safe("not there"),
    }
}

fn listen(host: &Host) -> Judged {
    let address = host.listen;
    if address.ip().is_loopback() {
        return safe(format!("without TLS only on {address}"));
    }
    not_safe(
        format!("keys and data are sent in the clear to {address}"),
        "set server.listen to a loopback address, and server.listen_https or a proxy with TLS \
         before it",
    )
}

#[cfg(test)]
mod tests;
