//! Looking at the machine as one who may attack it would. Nothing here is
//! judged. What the kernel does not show is `None`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use emberbox_runtime::firecracker::{Jailing, find_programs};
use emberbox_runtime::net::{DEFAULT_UID_BASE, MAX_SLOTS};
use emberbox_runtime::qemu;
use rustix::fs::StatVfsMountFlags;
use serde::Serialize;

use crate::cli;
use crate::config::Config;
use crate::doctor::facts::{Facts, reflink};

/// What a machine is, as far as its guests' walls go.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Host {
    /// The kernel's release, for example `6.1.0-40-amd64`.
    pub(super) kernel: String,
    /// Each weakness of the processor that the kernel knows, and what it does
    /// about it.
    pub(super) vulnerabilities: Vec<Vulnerability>,
    /// Two threads share a core.
    pub(super) smt: Option<bool>,
    /// Guests may make VMs of their own.
    pub(super) nested: Option<bool>,
    /// Equal pages of different processes are merged.
    pub(super) ksm: Option<bool>,
    pub(super) swap: Vec<SwapArea>,
    /// `kernel.core_pattern`.
    pub(super) core_pattern: Option<String>,
    /// `always`, `madvise` or `never`.
    pub(super) transparent_huge_pages: Option<String>,
    /// Memory that is set aside as huge pages, in bytes.
    pub(super) huge_page_bytes: u64,
    pub(super) kvm_device: Option<Mode>,
    /// The users VMMs run as, first and last.
    pub(super) vm_users: (u32, u32),
    /// Entries of the user databases that overlap them.
    pub(super) users_overlap: Vec<String>,
    /// Processes of such a user that are no VMM of ours.
    pub(super) strangers: Vec<String>,
    /// Privileges that this process lacks, by name.
    pub(super) lacks: Vec<&'static str>,
    /// What only root may be able to change.
    pub(super) guarded: Vec<Guarded>,
    pub(super) data_dir: DataDirFacts,
    /// Where the API listens without TLS.
    pub(super) listen: SocketAddr,
    /// `engine.seccomp_filter` is set.
    pub(super) own_seccomp_filter: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Vulnerability {
    pub(super) name: String,
    pub(super) state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SwapArea {
    pub(super) path: String,
    pub(super) bytes: u64,
}

/// Who may do what with a file: the lowest twelve bits of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Mode(pub(super) u32);

/// A file that the server trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Guarded {
    /// What it is, for people.
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    /// It or a directory above it, if others than root can change that.
    pub(super) weak: Option<PathBuf>,
}

/// Where the server's own files are.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DataDirFacts {
    pub(super) path: PathBuf,
    /// None before the first start.
    pub(super) mode: Option<Mode>,
    /// Its file system allows device nodes, which a jailed Firecracker needs.
    pub(super) devices: Option<bool>,
    pub(super) reflink: Option<bool>,
    /// `EMBERBOX_HOME` is on the same file system.
    pub(super) with_home: Option<bool>,
}

/// What a server does that only these allow, with their numbers in
/// capability.h; the systemd unit grants exactly these.
const CAPABILITIES: [(u32, &str); 11] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (3, "CAP_FOWNER"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (12, "CAP_NET_ADMIN"),
    (18, "CAP_SYS_CHROOT"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
];

/// Strangers that are named; one is enough to look.
const MAX_STRANGERS: usize = 5;

/// Looks at everything.
pub(super) fn gather(arguments: &cli::Doctor, config: &Config, facts: &Facts) -> Host {
    let first = DEFAULT_UID_BASE;
    let last = first + (MAX_SLOTS - 1);
    let vm_users = first..=last;
    Host {
        kernel: word("/proc/sys/kernel/osrelease").unwrap_or_default(),
        vulnerabilities: vulnerabilities(),
        smt: flag("/sys/devices/system/cpu/smt/active"),
        nested: ["kvm_intel", "kvm_amd"].into_iter().find_map(|module| {
            let parameter = format!("/sys/module/{module}/parameters/nested");
            flag(&parameter)
        }),
        // 2 is: no more, and what was merged is taken apart.
        ksm: word("/sys/kernel/mm/ksm/run").map(|run| run == "1"),
        swap: swap(&fs::read_to_string("/proc/swaps").unwrap_or_default()),
        core_pattern: word("/proc/sys/kernel/core_pattern"),
        transparent_huge_pages: word("/sys/kernel/mm/transparent_hugepage/enabled")
            .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())),
        huge_page_bytes: huge_page_bytes(),
        kvm_device: mode(Path::new("/dev/kvm")),
        vm_users: (first, last),
        users_overlap: ["passwd", "group", "subuid", "subgid"]
            .into_iter()
            .flat_map(|name| {
                let path = format!("/etc/{name}");
                let text = fs::read_to_string(&path).unwrap_or_default();
                overlapping(&path, &text, &vm_users)
            })
            .collect(),
        strangers: strangers(&vm_users),
        lacks: lacks(&fs::read_to_string("/proc/self/status").unwrap_or_default()),
        guarded: guarded(arguments, facts),
        data_dir: data_dir(&arguments.data_dir, facts),
        listen: config.server.listen,
        own_seccomp_filter: config.engine.seccomp_filter.is_some(),
    }
}

fn word(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn flag(path: &str) -> Option<bool> {
    match word(path)?.as_str() {
        "1" | "Y" => Some(true),
        "0" | "N" => Some(false),
        _ => None,
    }
}

fn mode(path: &Path) -> Option<Mode> {
    Some(Mode(fs::metadata(path).ok()?.mode() & 0o7777))
}

fn vulnerabilities() -> Vec<Vulnerability> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            Some(Vulnerability {
                name: entry.file_name().into_string().ok()?,
                state: fs::read_to_string(entry.path()).ok()?.trim().to_owned(),
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// What `/proc/swaps` lists.
fn swap(text: &str) -> Vec<SwapArea> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (path, _kind, kib) = (words.next()?, words.next()?, words.next()?);
            Some(SwapArea {
                path: path.to_owned(),
                // proc(5): in KiB.
                bytes: kib.parse::<u64>().ok()? * 1024,
            })
        })
        .collect()
}

fn huge_page_bytes() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return 0;
    };
    sizes
        .flatten()
        .filter_map(|size| {
            let name = size.file_name().into_string().ok()?;
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            let count = fs::read_to_string(size.path().join("nr_hugepages")).ok()?;
            Some(kib.parse::<u64>().ok()? * 1024 * count.trim().parse::<u64>().ok()?)
        })
        .sum()
}

/// Lines of a user database whose ids are among `ids`: `name:x:ID…` of people
/// and groups, `name:FIRST:COUNT` of subordinate ids.
fn overlapping(path: &str, text: &str, ids: &std::ops::RangeInclusive<u32>) -> Vec<String> {
    let subordinate = path.contains("/sub");
    text.lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let (first, count) = match subordinate {
                true => (fields.get(1)?.parse::<u64>().ok()?, fields.get(2)?),
                false => (fields.get(2)?.parse().ok()?, &"1"),
            };
            let end = first.checked_add(count.trim().parse().ok()?)?;
            let overlaps = first <= u64::from(*ids.end()) && end > u64::from(*ids.start());
            overlaps.then(|| format!("{} in {path}", fields[0]))
        })
        .collect()
}

/// Processes of these users outside our cgroups.
fn strangers(users: &std::ops::RangeInclusive<u32>) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let uid = users_of(&status)?;
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).ok()?;
            let ours = cgroup.contains("/emberbox-");
            let name = status.lines().next()?.strip_prefix("Name:")?.trim();
            (users.contains(&uid) && !ours).then(|| format!("{name} ({pid}, user {uid})"))
        })
        .take(MAX_STRANGERS)
        .collect()
}

/// The real user of a `/proc/PID/status`.
fn users_of(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Which of [`CAPABILITIES`] a `/proc/PID/status` does not have.
fn lacks(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let effective = effective.unwrap_or(0);
    CAPABILITIES
        .into_iter()
        .filter(|(number, _)| effective & (1 << number) == 0)
        .map(|(_, name)| name)
        .collect()
}

fn guarded(arguments: &cli::Doctor, facts: &Facts) -> Vec<Guarded> {
    let mut paths = vec![
        ("home", facts.home.path.clone()),
        ("data directory", arguments.data_dir.clone()),
    ];
    paths.extend(arguments.config.clone().map(|path| ("configuration", path)));
    paths.extend(std::env::current_exe().ok().map(|path| ("emberbox", path)));
    paths.extend(qemu::find_program().map(|path| ("QEMU", path)));
    if let Ok(programs) = find_programs(Jailing::On) {
        paths.push(("Firecracker", programs.firecracker));
        paths.extend(programs.jailer.map(|path| ("jailer", path)));
    }
    paths
        .into_iter()
        .filter_map(|(what, path)| {
            // What is not there yet is made below what is.
            let real = path.ancestors().find_map(|it| fs::canonicalize(it).ok())?;
            Some(Guarded {
                what,
                weak: real
                    .ancestors()
                    .find(|it| fs::metadata(it).is_ok_and(|facts| others_change(&facts)))
                    .map(Path::to_owned),
                path,
            })
        })
        .collect()
}

/// Whether others than root can put something else in its place.
fn others_change(facts: &fs::Metadata) -> bool {
    /// In such a directory only an entry's owner can replace it.
    const STICKY: u32 = 0o1000;
    let by_others = facts.mode() & 0o022 != 0 && facts.mode() & STICKY == 0;
    facts.uid() != 0 || by_others
}

fn data_dir(path: &Path, facts: &Facts) -> DataDirFacts {
    let existing = path.ancestors().find(|ancestor| ancestor.is_dir());
    let flags = existing.and_then(|it| rustix::fs::statvfs(it).ok());
    let device = |path: &Path| Some(fs::metadata(path).ok()?.dev());
    DataDirFacts {
        mode: mode(path),
        devices: flags.map(|it| !it.f_flag.contains(StatVfsMountFlags::NODEV)),
        reflink: existing.and_then(reflink),
        with_home: existing
            .and_then(device)
            .zip(device(&facts.home.path))
            .map(|(here, home)| here == home),
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) mod sample;
