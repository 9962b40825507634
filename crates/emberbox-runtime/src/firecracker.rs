//! The Firecracker engine, on KVM.
//!
//! Every VM is a Firecracker of its own in the root that its `jailer` makes.
//! The files it needs are shown there under names that are the same for every
//! VM, so that a snapshot, which remembers its disks by name, fits all of
//! them; the TAP's name and the guest's address are the same anyway. A restore
//! maps the memory file privately and copies nothing.
//!
//! ```text
//! server ─▶ emberbox-jail ─▶ jailer ─▶ firecracker
//!           cgroup, names-    chroot,   opens its API socket,
//!           paces, files      user      filters system calls
//! ```
//!
//! Invariants: the VMM runs as a user of its own, confined by its jailer,
//! unless the operator switched that off; what it writes is opened by name in
//! its own directory only, never through a link; there is no metadata service.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use emberbox_core::Shape;
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupTree;
use crate::engine::{
    BootPurpose, Capabilities, Capability, CheckpointFiles, Engine, EngineDescription, EngineError,
    SnapshotFiles, Vm, VmPlace, VmSpec,
};
use crate::jail::{Access, Confinement, DESCRIPTORS, JailSpec, Launcher, ShownFile, late};
use crate::net::{Slot, SlotIndex};
use crate::process::Process;
use crate::vmm::{self, Launch, NETNS_FD, PID_FILE};

mod api;
mod begin;
mod console;
mod release;
mod root;
mod snapshot;
mod standby;
mod vm;

pub use release::{Jailing, ProgramError, Programs, Version, VersionError, find_programs, version};

use begin::Then;
use console::Console;
use root::Root;
use snapshot::Source;
use standby::Waiting;
use vm::{FirecrackerVm, Listening};

/// The engine's name.
const NAME: &str = "firecracker";

/// The program's name in a root that no jailer makes.
const PROGRAM: &str = "/firecracker";

/// The API socket, as the VMM sees it.
const SOCKET: &str = "/api.sock";

/// What the VMM may write to one file besides memory and disk, in MiB.
const FILE_SLACK_MIB: u64 = 64;

/// Hides differences between hosts' processors from guests, so that snapshots
/// fit all hosts of a fleet: Firecracker's own static templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CpuTemplate {
    /// Intel, as an EC2 C3.
    C3,
    /// Intel, as an EC2 T2.
    T2,
    /// The same with more of Skylake.
    T2S,
    /// Intel Cascade Lake and newer.
    T2Cl,
    /// AMD Milan as an EC2 T2.
    T2A,
}

impl CpuTemplate {
    fn name(self) -> &'static str {
        match self {
            Self::C3 => "C3",
            Self::T2 => "T2",
            Self::T2S => "T2S",
            Self::T2Cl => "T2CL",
            Self::T2A => "T2A",
        }
    }
}

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct FirecrackerConfig {
    /// Firecracker and its jailer.
    pub programs: Programs,
    /// Compiled filters instead of the built-in ones: for builds that have
    /// none.
    pub seccomp_filter: Option<PathBuf>,
    /// What guests see of the processor; all of it when absent.
    pub cpu_template: Option<CpuTemplate>,
    /// How VMM processes enter their jail.
    pub launcher: Launcher,
    /// Keeps the cgroups of several servers apart.
    pub instance: String,
}

/// The engine.
pub struct Firecracker {
    config: FirecrackerConfig,
    version: Version,
    description: EngineDescription,
    cgroups: CgroupTree,
    /// Files can be shown to a VMM that runs.
    can_show_late: bool,
    /// By the network that each was started in.
    waiting: Mutex<HashMap<SlotIndex, Waiting>>,
}

/// What the process of a VM has to know of it.
struct Outline<'a> {
    place: &'a VmPlace,
    slot: &'a Slot,
    shape: Shape,
}

impl<'a> From<&'a VmSpec> for Outline<'a> {
    fn from(spec: &'a VmSpec) -> Self {
        Self {
            place: &spec.place,
            slot: &spec.slot,
            shape: spec.shape,
        }
    }
}

impl Firecracker {
    /// An engine that uses these programs.
    pub fn new(mut config: FirecrackerConfig) -> Result<Self, EngineError> {
        let unusable = |error: ProgramError| {
            EngineError::host("cannot use Firecracker", io::Error::other(error))
        };
        let version = config.programs.version().map_err(unusable)?;
        let absolute = |path: &Path| {
            fs::canonicalize(path)
                .map_err(|e| EngineError::host(format!("cannot find {}", path.display()), e))
        };
        config.programs.firecracker = absolute(&config.programs.firecracker)?;
        if let Some(jailer) = &mut config.programs.jailer {
            *jailer = absolute(jailer)?;
        }
        if let Some(filter) = &mut config.seccomp_filter {
            *filter = absolute(filter)?;
        }
        let template = config.cpu_template.map_or("none", CpuTemplate::name);
        let cpu = host_cpu().map_err(|e| EngineError::host("cannot read /proc/cpuinfo", e))?;
        let description = EngineDescription {
            name: NAME,
            version: version.to_string(),
            accelerator: "kvm",
            snapshot_compatibility: format!("{NAME} {version} template {template} on {cpu}"),
        };
        let cgroups = CgroupTree::detect(&config.instance);
        if cgroups.version() == "none" {
            tracing::warn!("no usable cgroups: VMs run without limits on the host's side");
        }
        Ok(Self {
            config,
            version,
            description,
            cgroups,
            can_show_late: late::is_possible(),
            waiting: Mutex::default(),
        })
    }

    async fn start(&self, spec: &VmSpec, how: Start) -> Result<Arc<dyn Vm>, EngineError> {
        let guard = match self.config.programs.jailer {
            Some(_) => Guard::Jailer,
            None => Guard::Root,
        };
        self.start_guarded(spec, how, guard).await
    }

    async fn start_guarded(
        &self,
        spec: &VmSpec,
        how: Start,
        guard: Guard,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        if vmm::find(&spec.place)?.is_some() {
            return Err(EngineError::AlreadyRunning(spec.place.id.clone()));
        }
        // What a server left that was killed in the middle of this.
        self.reap(&spec.place).await?;
        let started = match self.one_waiting(spec.slot.index()) {
            Some(waiting) => self.launch_in(waiting, spec, &how, guard).await,
            None => self.launch(spec, &how, guard).await,
        };
        if started.is_err() {
            self.reap(&spec.place).await?;
        }
        started
    }

    async fn launch(
        &self,
        spec: &VmSpec,
        how: &Start,
        guard: Guard,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        let mut files = self.shown(spec, how)?;
        files.extend(self.filter());
        let vmm = self.listening(&spec.into(), files, guard).await?;
        let vm = FirecrackerVm::of(&spec.place, vmm, self.cgroups.clone());
        self.begin(&vm, spec, how).await?;
        Ok(vm)
    }

    /// Tells a Firecracker that listens what to run.
    async fn begin(
        &self,
        vm: &FirecrackerVm,
        spec: &VmSpec,
        how: &Start,
    ) -> Result<(), EngineError> {
        match how {
            Start::Boot => begin::boot(vm, spec, self.config.cpu_template).await,
            Start::Seed(_) => begin::load(vm, Then::Run).await,
            Start::Checkpoint(_) => begin::load(vm, Then::Stand).await,
        }
    }

    /// Starts a Firecracker that is shown these files, and waits until it listens.
    async fn listening(
        &self,
        outline: &Outline<'_>,
        files: Vec<ShownFile>,
        guard: Guard,
    ) -> Result<Listening, EngineError> {
        let place = outline.place;
        let root = match guard {
            Guard::Jailer => Root::of(place, &self.config.programs.firecracker),
            Guard::Root | Guard::Nothing => Root::of(place, Path::new(PROGRAM)),
        };
        let cannot = |e| EngineError::host("cannot prepare the jail", e);
        fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o700)).map_err(cannot)?;
        root.make(guard.uid(outline.slot)).map_err(cannot)?;
        let jail = self.jail(outline, files, guard, &root)?;
        let (process, console) = self.run(outline, &jail).await?;
        Listening::wait(place, root, process, console).await
    }

    async fn run(
        &self,
        outline: &Outline<'_>,
        jail: &JailSpec,
    ) -> Result<(Process, Console), EngineError> {
        let place = outline.place;
        let opened = Console::open(place).and_then(|it| Ok((it, Console::writer(place)?)));
        let (console, stdout) =
            opened.map_err(|e| EngineError::host("cannot make the console", e))?;
        let launch = Launch {
            launcher: &self.config.launcher,
            place,
            slot: outline.slot,
            jail,
            inherited: Vec::new(),
            stdout: Stdio::from(stdout),
        };
        Ok((launch.run().await?, console))
    }

    fn jail(
        &self,
        outline: &Outline<'_>,
        mut files: Vec<ShownFile>,
        guard: Guard,
        root: &Root,
    ) -> Result<JailSpec, EngineError> {
        let (path, programs) = (root.path.clone(), &self.config.programs);
        let (program, args, confinement) = match (guard, &programs.jailer) {
            (Guard::Jailer, Some(jailer)) => (
                jailer.clone(),
                self.jailer_arguments(outline, root),
                Confinement::ByTheProgram { root: path, files },
            ),
            (Guard::Jailer | Guard::Root | Guard::Nothing, _) => {
                let program = root::shown(&programs.firecracker, PROGRAM, Access::Execute);
                files.push(program);
                files.extend(
                    DEVICES.map(|device| root::shown(Path::new(device), device, Access::Device)),
                );
                let mut args = vec!["--id".to_owned(), root.id.clone()];
                args.extend(self.own_arguments());
                (
                    PathBuf::from(PROGRAM),
                    args,
                    Confinement::RootOnly { root: path, files },
                )
            }
        };
        let cgroup_procs = match guard {
            Guard::Jailer | Guard::Root => self.cgroups.create(&outline.place.id, outline.shape)?,
            Guard::Nothing => Vec::new(),
        };
        Ok(JailSpec {
            netns: NETNS_FD,
            cgroup_procs,
            confinement,
            pid_file: outline.place.dir.join(PID_FILE),
            program,
            args: args.into_iter().map(Into::into).collect(),
        })
    }

    /// The files of a VM that are shown in its VMM's root.
    fn shown(&self, spec: &VmSpec, how: &Start) -> Result<Vec<ShownFile>, EngineError> {
        let mut files = root::disks(spec)?;
        let read = |path: &Path, name| root::shown(path, name, Access::Read);
        match how {
            Start::Boot => {
                let kernel = self
                    .version
                    .kernel(&spec.images.kernel)
                    .map_err(|detail| EngineError::Start { detail })?;
                files.push(read(&kernel, root::KERNEL));
                files.push(read(&spec.images.initramfs, root::INITRAMFS));
            }
            Start::Seed(source) | Start::Checkpoint(source) => {
                for file in [&source.memory, &source.state] {
                    root::open_to_vmms(file)?;
                }
                snapshot::keep_base(&spec.place, &source.memory)?;
                files.push(read(&source.memory, root::MEMORY));
                files.push(read(&source.state, root::STATE));
            }
        }
        Ok(files)
    }

    /// The file that Firecracker reads before it listens.
    fn filter(&self) -> Option<ShownFile> {
        let filter = self.config.seccomp_filter.as_ref()?;
        Some(root::shown(filter, root::SECCOMP, Access::Read))
    }

    fn jailer_arguments(&self, outline: &Outline<'_>, root: &Root) -> Vec<String> {
        let uid = outline.slot.uid().to_string();
        let file_size = (u64::from(largest_mib(outline.shape)) + FILE_SLACK_MIB) << 20;
        let mut args: Vec<String> = [
            ("--id", root.id.clone()),
            ("--exec-file", shown_path(&self.config.programs.firecracker)),
            ("--uid", uid.clone()),
            ("--gid", uid),
            ("--chroot-base-dir", shown_path(root.base())),
            ("--resource-limit", format!("fsize={file_size}")),
            // Its own default is more than the jail has left it, which only
            // CAP_SYS_RESOURCE could raise.
            ("--resource-limit", format!("no-file={DESCRIPTORS}")),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        args.push("--".to_owned());
        args.extend(self.own_arguments());
        args
    }

    /// What Firecracker itself is told.
    fn own_arguments(&self) -> Vec<String> {
        let mut args = vec!["--api-sock", SOCKET];
        if self.config.seccomp_filter.is_some() {
            args.extend(["--seccomp-filter", root::SECCOMP]);
        }
        args.into_iter().map(str::to_owned).collect()
    }
}

/// What a Firecracker opens that no jailer made devices for.
const DEVICES: [&str; 3] = ["/dev/kvm", "/dev/net/tun", "/dev/urandom"];

/// What is around a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Its jailer, and a cgroup.
    Jailer,
    /// A root of its own and a cgroup.
    Root,
    /// A root of its own.
    Nothing,
}

impl Guard {
    fn uid(self, slot: &Slot) -> u32 {
        match self {
            Self::Jailer => slot.uid(),
            Self::Root | Self::Nothing => 0,
        }
    }
}

/// What a VMM does first.
#[derive(Debug, Clone)]
enum Start {
    Boot,
    Seed(Source),
    Checkpoint(Source),
}

impl From<&SnapshotFiles> for Source {
    fn from(files: &SnapshotFiles) -> Self {
        Self {
            memory: files.memory.clone(),
            state: files.state.clone(),
        }
    }
}

#[async_trait]
impl Engine for Firecracker {
    fn describe(&self) -> &EngineDescription {
        &self.description
    }

    fn capabilities(&self) -> Capabilities {
        const ALWAYS: &[Capability] =
            &[Capability::Pause, Capability::Seed, Capability::Checkpoint];
        const WITH_STAND_BY: &[Capability] = &[
            Capability::Pause,
            Capability::Seed,
            Capability::Checkpoint,
            Capability::StandBy,
        ];
        let stands_by = self.config.programs.jailer.is_some() && self.can_show_late;
        Capabilities(if stands_by { WITH_STAND_BY } else { ALWAYS })
    }

    async fn boot(&self, spec: &VmSpec, _: BootPurpose) -> Result<Arc<dyn Vm>, EngineError> {
        // Any VM can be saved whole, which is all a seed needs.
        self.start(spec, Start::Boot).await
    }

    async fn restore(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        self.start(spec, Start::Seed(snapshot.into())).await
    }

    async fn restore_bare(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        self.start_guarded(spec, Start::Seed(snapshot.into()), Guard::Nothing)
            .await
    }

    async fn restore_checkpoint(
        &self,
        spec: &VmSpec,
        checkpoint: &CheckpointFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        let source = Source {
            memory: checkpoint.memory.clone(),
            state: checkpoint.state.clone(),
        };
        self.start(spec, Start::Checkpoint(source)).await
    }

    async fn stand_by(&self, place: &VmPlace, slot: &Arc<Slot>) -> Result<(), EngineError> {
        if !self.capabilities().has(Capability::StandBy) {
            return Err(EngineError::NotSupported {
                engine: NAME,
                capability: Capability::StandBy,
            });
        }
        let waits = self.wait_in(place, slot).await;
        if waits.is_err() {
            self.reap(place).await?;
        }
        waits
    }

    async fn adopt(&self, place: &VmPlace) -> Result<Option<Arc<dyn Vm>>, EngineError> {
        let Some(process) = vmm::find(place)? else {
            return Ok(None);
        };
        let cannot = |e| EngineError::host("cannot find the jail of a running VMM", e);
        let root = Root::find(place).map_err(cannot)?;
        let root = root.ok_or_else(|| cannot(io::ErrorKind::NotFound.into()))?;
        let console =
            Console::open(place).map_err(|e| EngineError::host("cannot open the console", e))?;
        let vmm = Listening::wait(place, root, process, console).await?;
        let vm = FirecrackerVm::of(place, vmm, self.cgroups.clone());
        Ok(Some(vm))
    }

    async fn reap(&self, place: &VmPlace) -> Result<(), EngineError> {
        let waited = self.give_up(place);
        vmm::end(place, &self.cgroups).await?;
        if let Some(waited) = waited {
            // One that had ended before is a child nobody has heard of.
            waited.vmm.process.wait().await;
        }
        vm::remove_files(place)
    }

    fn close(&self) {
        self.cgroups.remove_if_empty();
    }
}

/// The largest file that a VM of this shape needs, in MiB: memory or disk.
fn largest_mib(shape: Shape) -> u32 {
    shape.memory_mib.max(shape.disk_mib)
}

fn shown_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The processor a snapshot is bound to: what `/proc/cpuinfo` says of the
/// first one's maker and model.
fn host_cpu() -> io::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = text.lines().find(|line| {
            let key = line.split(':').next().unwrap_or_default();
            key.trim_end() == name
        });
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("?", |(_, value)| value.trim())
    };
    Ok(["vendor_id", "cpu family", "model", "stepping"]
        .map(field)
        .join(" "))
}
