//! What a server owns on this machine, seen from outside, and whether any of
//! it is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use procfs::process;

use crate::command;
use crate::patience::patience;

/// Longest until the kernel has taken a deleted namespace and its links apart.
const GONE_DEADLINE: Duration = Duration::from_secs(10);
/// How often is looked meanwhile; the kernel notifies nobody.
const POLL: Duration = Duration::from_millis(10);

/// Where the network slots of this machine are recorded: links named by their
/// index that point to the name of the owning server's instance.
const SLOTS: &str = "/run/emberbox/slots";
/// Where named network namespaces are bound.
const NAMESPACES: &str = "/run/netns";
/// Where links are listed.
const LINKS: &str = "/sys/class/net";
/// Where cgroups are; version 1 has them one level further down.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What was seen while sandboxes ran.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    /// The server's name in everything it makes on this machine.
    instance: Option<String>,
    /// VMM processes with their start times, for pids are used again.
    processes: BTreeSet<(i32, u64)>,
    slots: BTreeSet<String>,
}

impl Owned {
    /// Notes what the server with this data directory owns now. A running
    /// sandbox must show: a check that sees nothing proves nothing.
    pub(crate) fn observe(&mut self, data_dir: &Path) -> Result<()> {
        let instance = fs::read_to_string(data_dir.join("instance"))
            .context("the data directory has no instance")?;
        let instance = instance.trim().to_owned();
        let slots = slots(&instance)?;
        ensure!(
            !slots.is_empty(),
            "a sandbox runs, yet it has no network slot"
        );
        let processes = processes_in(&namespaces(&instance)?)?;
        ensure!(
            !processes.is_empty(),
            "a sandbox runs, yet there is no VMM process"
        );
        self.slots.extend(slots);
        self.processes.extend(processes);
        self.instance = Some(instance);
        Ok(())
    }

    /// The name of a VMM's process, for example `firecracker`.
    pub(crate) fn vmm(&self) -> Result<String> {
        let process = self.processes.iter().next();
        let (pid, _) = process.context("no VMM was seen")?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        Ok(name.context("the VMM is gone")?.trim().to_owned())
    }

    /// Fails with everything that is still there though the server has ended.
    pub(crate) fn check(&self, directory: &Path) -> Result<()> {
        let deadline = Instant::now() + patience(GONE_DEADLINE);
        loop {
            let left = self.left(directory)?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "left behind: {}",
                left.join(", ")
            );
            std::thread::sleep(POLL);
        }
    }

    fn left(&self, directory: &Path) -> Result<Vec<String>> {
        let mut left = mounts_below(directory)?;
        let Some(instance) = &self.instance else {
            return Ok(left);
        };
        for (pid, start) in &self.processes {
            if start_of(*pid) == Some(*start) {
                left.push(format!("process {pid}"));
            }
        }
        for slot in slots(instance)? {
            left.push(format!("{SLOTS}/{slot}"));
        }
        left.extend(shown(&namespaces(instance)?));
        // A slot that is given back may belong to another server by now.
        for slot in self.slots.iter().filter(|slot| owner(slot).is_none()) {
            left.extend(shown(&existing(Path::new(LINKS).join(format!("eb{slot}")))));
        }
        left.extend(shown(&cgroups(instance)?));
        let table = format!("emberbox_{instance}");
        let tables = command::output(Command::new("nft").args(["list", "tables"]))?;
        if String::from_utf8_lossy(&tables).contains(&table) {
            left.push(format!("nftables table {table}"));
        }
        Ok(left)
    }
}

/// The VMM processes of the server with this data directory.
pub(crate) fn vmms(data_dir: &Path) -> Result<Vec<i32>> {
    let instance = fs::read_to_string(data_dir.join("instance"))
        .context("the data directory has no instance")?;
    let found = processes_in(&namespaces(instance.trim())?)?;
    Ok(found.into_iter().map(|(pid, _start)| pid).collect())
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

fn existing(path: PathBuf) -> Vec<PathBuf> {
    if path.exists() {
        vec![path]
    } else {
        Vec::new()
    }
}

/// The slots of one server.
fn slots(instance: &str) -> Result<Vec<String>> {
    let names = names_in(Path::new(SLOTS))?;
    Ok(names
        .into_iter()
        .filter(|slot| owner(slot).as_deref() == Some(instance))
        .collect())
}

/// Whose a slot is, if it is anybody's.
fn owner(slot: &str) -> Option<String> {
    let target = fs::read_link(Path::new(SLOTS).join(slot)).ok()?;
    Some(target.to_string_lossy().into_owned())
}

/// The named network namespaces of one server.
fn namespaces(instance: &str) -> Result<Vec<PathBuf>> {
    let prefix = format!("emberbox-{instance}-");
    let directory = Path::new(NAMESPACES);
    let names = names_in(directory)?;
    Ok(names
        .iter()
        .filter(|name| name.starts_with(&prefix))
        .map(|name| directory.join(name))
        .collect())
}

fn cgroups(instance: &str) -> Result<Vec<PathBuf>> {
    let name = format!("emberbox-{instance}");
    let top = Path::new(CGROUPS);
    let mut found = existing(top.join(&name));
    for controller in names_in(top)? {
        found.extend(existing(top.join(controller).join(&name)));
    }
    Ok(found)
}

/// Processes that live in one of the namespaces.
fn processes_in(namespaces: &[PathBuf]) -> Result<Vec<(i32, u64)>> {
    let inodes: BTreeSet<u64> = namespaces
        .iter()
        .flat_map(fs::metadata)
        .map(|metadata| metadata.ino())
        .collect();
    let all = process::all_processes().context("cannot list processes")?;
    Ok(all
        // A process may end while it is looked at.
        .flatten()
        .filter_map(|process| {
            let namespace = fs::metadata(format!("/proc/{}/ns/net", process.pid())).ok()?;
            let start = inodes
                .contains(&namespace.ino())
                .then(|| start_of(process.pid()))??;
            Some((process.pid(), start))
        })
        .collect())
}

fn start_of(pid: i32) -> Option<u64> {
    Some(process::Process::new(pid).ok()?.stat().ok()?.starttime)
}

fn mounts_below(directory: &Path) -> Result<Vec<String>> {
    let mounts = process::Process::myself()
        .and_then(|this| this.mountinfo())
        .context("cannot read the mounts")?;
    Ok(mounts
        .into_iter()
        .filter(|mount| mount.mount_point.starts_with(directory))
        .map(|mount| format!("mount {}", mount.mount_point.display()))
        .collect())
}

/// The names in a directory; none if it does not exist.
fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot list {}", directory.display()));
        }
    };
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}
