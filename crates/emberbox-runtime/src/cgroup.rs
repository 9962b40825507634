//! How much of the machine one VMM process may take.
//!
//! Works with cgroup v2 and, where the controllers are still there, v1. A
//! cgroup is named by the instance and the VM, so that it can be found and
//! removed by whoever has the spec. A VMM joins before it runs anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use emberbox_core::{Shape, VmId};

use crate::engine::EngineError;

/// Memory a VMM may use besides the guest's own, in MiB: QEMU's heap and
/// translation caches, measured at 40 to 90 MiB, with room to spare.
const OVERHEAD_MIB: u64 = 256;

/// Times a guest's memory may be charged. A page that a restored guest writes is
/// its own; but if the seed never touched it, the kernel first makes a page of
/// zeroes in the seed's shared memory, and charges it to this VM for good.
const GUEST_COPIES: u64 = 2;

/// Threads one VMM may have: vCPUs, IO workers and QEMU's pool of 64.
const MAX_TASKS: u64 = 128;

/// CFS period in microseconds; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// A VMM's IO thread may use half a CPU on top of the vCPUs.
const IO_CPU_US: u64 = CPU_PERIOD_US / 2;

/// Where the kernel shows its cgroups.
const MOUNT: &str = "/sys/fs/cgroup";

/// Controllers a VMM is limited by.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The cgroup tree of one instance.
#[derive(Debug, Clone)]
pub struct CgroupTree {
    layout: Layout,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    V2,
    V1,
    /// No controller can be used here: VMs run unlimited, and `doctor` says so.
    None,
}

impl CgroupTree {
    /// Finds out what this machine offers. `instance` keeps servers apart.
    #[must_use]
    pub fn detect(instance: &str) -> Self {
        let mount = Path::new(MOUNT);
        let layout = if mount.join("cgroup.subtree_control").exists() {
            Layout::V2
        } else if CONTROLLERS
            .iter()
            .all(|c| mount.join(c).join("cgroup.procs").exists())
        {
            Layout::V1
        } else {
            Layout::None
        };
        Self {
            layout,
            name: format!("emberbox-{instance}"),
        }
    }

    /// `v2`, `v1` or `none`.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.layout {
            Layout::V2 => "v2",
            Layout::V1 => "v1",
            Layout::None => "none",
        }
    }

    /// Makes the VM's cgroup with its limits; returns the files a process
    /// writes its pid to in order to join.
    pub fn create(&self, vm: &VmId, shape: Shape) -> Result<Vec<PathBuf>, EngineError> {
        let failed = |path: &Path| {
            let doing = format!("cannot set up cgroup {}", path.display());
            move |source| EngineError::Host { doing, source }
        };
        if self.layout == Layout::V2 {
            enable_controllers(Path::new(MOUNT)).map_err(failed(Path::new(MOUNT)))?;
            let parent = Path::new(MOUNT).join(&self.name);
            fs::create_dir_all(&parent).map_err(failed(&parent))?;
            enable_controllers(&parent).map_err(failed(&parent))?;
        }
        for directory in self.directories(vm) {
            fs::create_dir_all(&directory).map_err(failed(&directory))?;
        }
        for (path, value) in self.limits(vm, shape) {
            fs::write(&path, value).map_err(failed(&path))?;
        }
        Ok(self
            .directories(vm)
            .into_iter()
            .map(|d| d.join("cgroup.procs"))
            .collect())
    }

    /// Moves a process, with all its threads, into the cgroup of a VM, which is
    /// made with its limits.
    pub fn move_into(&self, vm: &VmId, shape: Shape, pid: i32) -> Result<(), EngineError> {
        for procs in self.create(vm, shape)? {
            fs::write(&procs, pid.to_string())
                .map_err(|e| EngineError::host("cannot move the VMM to its cgroup", e))?;
        }
        Ok(())
    }

    /// The processes in a VM's cgroup; empty when there is none.
    #[must_use]
    pub fn processes(&self, vm: &VmId) -> Vec<i32> {
        let Some(directory) = self.directories(vm).into_iter().next() else {
            return Vec::new();
        };
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        procs.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Whether anything of a VM's cgroup is there.
    #[must_use]
    pub fn exists(&self, vm: &VmId) -> bool {
        self.directories(vm)
            .iter()
            .any(|directory| directory.exists())
    }

    /// Removes a VM's empty cgroup. Idempotent.
    pub fn remove(&self, vm: &VmId) -> io::Result<()> {
        for directory in self.directories(vm) {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes the instance's own directory if no VM is left in it.
    pub fn remove_if_empty(&self) {
        for directory in self.parents() {
            // Not empty means VMs still run: they are adopted by the next start.
            let _ = fs::remove_dir(directory);
        }
    }

    fn parents(&self) -> Vec<PathBuf> {
        let mount = Path::new(MOUNT);
        match self.layout {
            Layout::V2 => vec![mount.join(&self.name)],
            Layout::V1 => CONTROLLERS
                .iter()
                .map(|c| mount.join(c).join(&self.name))
                .collect(),
            Layout::None => Vec::new(),
        }
    }

    fn directories(&self, vm: &VmId) -> Vec<PathBuf> {
        self.parents()
            .into_iter()
            .map(|parent| parent.join(vm.as_str()))
            .collect()
    }

    fn limits(&self, vm: &VmId, shape: Shape) -> Vec<(PathBuf, String)> {
        let memory = (u64::from(shape.memory_mib) * GUEST_COPIES + OVERHEAD_MIB) << 20;
        let cpu = u64::from(shape.vcpus) * CPU_PERIOD_US + IO_CPU_US;
        let directories = self.directories(vm);
        match (self.layout, directories.as_slice()) {
            (Layout::V2, [vm]) => vec![
                (vm.join("memory.max"), memory.to_string()),
                (vm.join("cpu.max"), format!("{cpu} {CPU_PERIOD_US}")),
                (vm.join("pids.max"), MAX_TASKS.to_string()),
            ],
            (Layout::V1, [in_memory, in_cpu, in_pids]) => vec![
                (in_memory.join("memory.limit_in_bytes"), memory.to_string()),
                (in_cpu.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string()),
                (in_cpu.join("cpu.cfs_quota_us"), cpu.to_string()),
                (in_pids.join("pids.max"), MAX_TASKS.to_string()),
            ],
            (Layout::V2 | Layout::V1 | Layout::None, _) => Vec::new(),
        }
    }
}

fn enable_controllers(directory: &Path) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    for controller in CONTROLLERS {
        if !enabled.split_whitespace().any(|word| word == controller) {
            fs::write(&file, format!("+{controller}"))?;
        }
    }
    Ok(())
}
