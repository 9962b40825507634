//! What a server owns on this machine, seen from the kernel's side, and
//! whether any of it is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::rig::try_eventually;

/// Longest until the kernel has taken a deleted namespace and its links apart.
const GONE: Duration = Duration::from_secs(10);

/// Symbolic links named by a slot's index that point to the owning server.
const SLOTS: &str = "/run/emberbox/slots";
/// Where named network namespaces are bound.
const NAMESPACES: &str = "/run/netns";
/// Where links are listed.
const LINKS: &str = "/sys/class/net";
/// Where cgroups are; version 1 has them one level further down.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What was seen of one server while it ran.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    instance: Option<String>,
    slots: BTreeSet<String>,
}

impl Owned {
    /// Notes what the server with this data directory owns now.
    pub(crate) fn look(&mut self, data_dir: &Path) {
        if let Some(instance) = instance(data_dir) {
            self.slots.extend(slots(&instance));
            self.instance = Some(instance);
        }
    }

    /// Says what is still there though the server has ended.
    pub(crate) fn gone(&self, data_dir: &Path) -> Result<(), String> {
        let instance = self.instance.as_deref().ok_or("it was never looked at")?;
        if self.slots.is_empty() {
            return Err("no slot was ever seen: a check that sees nothing proves nothing".into());
        }
        let left = || self.left(instance, data_dir);
        match try_eventually(GONE, || left().is_empty().then_some(())) {
            Some(()) => Ok(()),
            None => Err(format!("left behind: {}", left().join(", "))),
        }
    }

    fn left(&self, instance: &str, data_dir: &Path) -> Vec<String> {
        let mut left = Vec::new();
        let vms = vms(data_dir, None);
        left.extend(vms.recorded.iter().map(|vm| format!("vms/{vm}")));
        left.extend(vms.processes.iter().map(|pid| format!("process {pid}")));
        let ours = |name: &String| name.starts_with(&format!("emberbox-{instance}-"));
        let namespaces = names_in(Path::new(NAMESPACES));
        left.extend(namespaces.into_iter().filter(ours));
        left.extend(slots(instance).iter().map(|slot| format!("slot {slot}")));
        // A slot that is given back may belong to another server by now.
        let free = self.slots.iter().filter(|slot| owner(slot).is_none());
        let links = free.map(|slot| format!("eb{slot}"));
        left.extend(links.filter(|link| Path::new(LINKS).join(link).exists()));
        left.extend(mounts_below(data_dir.parent().unwrap()));
        left.extend(
            cgroups(instance)
                .iter()
                .map(|path| path.display().to_string()),
        );
        let table = format!("emberbox_{instance}");
        let tables = Command::new("nft")
            .args(["list", "tables"])
            .output()
            .unwrap();
        assert!(tables.status.success(), "nft: {}", tables.status);
        if String::from_utf8_lossy(&tables.stdout).contains(&table) {
            left.push(format!("nftables table {table}"));
        }
        left
    }
}

/// VMs as the machine shows them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vms {
    /// Directories of records.
    pub(crate) recorded: BTreeSet<String>,
    /// Those that a process has a file of.
    pub(crate) open: BTreeSet<String>,
    /// The processes that have, or that are in a cgroup of this server.
    pub(crate) processes: BTreeSet<u32>,
    /// Those that have a cgroup.
    pub(crate) limited: BTreeSet<String>,
    /// Namespaces of its slots.
    pub(crate) namespaces: usize,
    /// Records of its slots.
    pub(crate) slots: usize,
}

/// Looks at everything; `server` is the process that is no VMM.
pub(crate) fn vms(data_dir: &Path, server: Option<u32>) -> Vms {
    let instance = instance(data_dir).unwrap_or_default();
    let root = data_dir.join("vms");
    let cgroup = format!("/emberbox-{instance}/");
    let (mut open, mut processes) = (BTreeSet::new(), BTreeSet::new());
    for pid in names_in(Path::new("/proc")) {
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        if Some(pid) == server {
            continue;
        }
        let directory = PathBuf::from(format!("/proc/{pid}"));
        for descriptor in names_in(&directory.join("fd")) {
            // A process may end while it is looked at.
            let file = fs::read_link(directory.join("fd").join(descriptor)).unwrap_or_default();
            if let Ok(inside) = file.strip_prefix(&root)
                && let Some(vm) = inside.iter().next()
            {
                open.insert(vm.to_string_lossy().into_owned());
                processes.insert(pid);
            }
        }
        let cgroups = fs::read_to_string(directory.join("cgroup")).unwrap_or_default();
        if cgroups.contains(&cgroup) {
            processes.insert(pid);
        }
    }
    let prefix = format!("emberbox-{instance}-");
    let namespaces = names_in(Path::new(NAMESPACES));
    Vms {
        recorded: names_in(&root).into_iter().collect(),
        open,
        processes,
        limited: cgroups(&instance)
            .iter()
            .flat_map(|cgroup| names_in(cgroup))
            .filter(|name| name.starts_with("vm_"))
            .collect(),
        namespaces: namespaces
            .iter()
            .filter(|name| name.starts_with(&prefix))
            .count(),
        slots: slots(&instance).len(),
    }
}

/// The server's name in everything it makes on this machine.
fn instance(data_dir: &Path) -> Option<String> {
    let instance = fs::read_to_string(data_dir.join("instance")).ok()?;
    Some(instance.trim().to_owned())
}

fn slots(instance: &str) -> Vec<String> {
    let slots = names_in(Path::new(SLOTS)).into_iter();
    slots
        .filter(|slot| owner(slot).as_deref() == Some(instance))
        .collect()
}

/// Whose a slot is, if it is anybody's.
fn owner(slot: &str) -> Option<String> {
    let target = fs::read_link(Path::new(SLOTS).join(slot)).ok()?;
    Some(target.to_string_lossy().into_owned())
}

fn cgroups(instance: &str) -> Vec<PathBuf> {
    let name = format!("emberbox-{instance}");
    let top = Path::new(CGROUPS);
    let controllers = names_in(top).into_iter().map(|name| top.join(name));
    std::iter::once(top.to_owned())
        .chain(controllers)
        .map(|directory| directory.join(&name))
        .filter(|directory| directory.exists())
        .collect()
}

fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        // The fifth field is where it is mounted (proc(5)).
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(directory))
        .map(|point| format!("mount {point}"))
        .collect()
}

/// The names in a directory; none if it does not exist.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
