//! The QEMU engine: with KVM where it works, in software where it does not.
//!
//! A seed's memory is one file that QEMU maps shared while the seed is taken
//! and private when it is restored, so a restore copies no memory and every VM
//! writes to pages of its own. QEMU 7.2 opens such a file for writing even to
//! map it privately; restored VMs therefore get a *sealed* in-memory copy that
//! the kernel lets nobody write (`memory::SealedMemory`). A guest that booted
//! cold has a memory file to itself. Either way its own pages can be found and
//! copied while it stands still (`pages`), without QEMU's help.
//!
//! Invariants: QEMU runs in the jail with a user of its own; its control
//! socket is reachable by root alone; a guest that powers off leaves its QEMU
//! waiting, so that the reason can be read.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;

use crate::cgroup::CgroupTree;
use crate::disk::FileId;
use crate::engine::{
    BootPurpose, Capabilities, Capability, CheckpointFiles, Engine, EngineDescription, EngineError,
    SnapshotFiles, Vm, VmPlace, VmSpec,
};
use crate::jail::{Confinement, JailSpec, Launcher};
use crate::net::Slot;
use crate::process::ProcessRef;
use crate::vmm::{self, Launch, NETNS_FD, PID_FILE, remove_file, start_error};

mod args;
mod bare;
mod checkpoint;
mod memory;
mod pages;
mod qmp;
mod vm;

use args::{CommandLine, Incoming, Inherited, Memory};
use memory::SealedMemory;
use vm::{Begin, MemoryOrigin, Pages, QemuVm};

/// The engine's name.
const NAME: &str = "qemu";

/// Files in a VM's directory.
const CONTROL_SOCKET: &str = "qmp.sock";
const JAIL_ROOT: &str = "jail";
const SEED_MEMORY: &str = "memory";
/// A link to the memory of the seed it came from.
const BASE_MEMORY: &str = "base";
/// How many bytes of memory its guest has.
const MEMORY_BYTES: &str = "vmm.memory";

/// Prefix of a kernel image that QEMU needs again when it restores: only the
/// boot ROM it makes from the header must be there, the kernel itself is in
/// the guest's memory. Saves reading and holding the rest.
const KERNEL_HEADER: u64 = 64 * 1024;

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's CPU, through KVM.
    Kvm,
    /// QEMU's translator.
    Tcg {
        /// Bound of the translation cache in MiB. 64 keeps an idle VM under
        /// 50 MB of unique memory and still holds a Node.js start.
        cache_mib: u32,
    },
}

impl Accelerator {
    /// Software emulation with the default bound.
    pub const TCG: Self = Self::Tcg { cache_mib: 64 };

    fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg { .. } => "tcg",
        }
    }

    fn argument(self) -> String {
        match self {
            Self::Kvm => "kvm".to_owned(),
            Self::Tcg { cache_mib } => format!("tcg,tb-size={cache_mib},thread=multi"),
        }
    }

    fn cpu_model(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg { .. } => "max",
        }
    }

    /// What the guest's kernel needs to know. Emulated timers drift while they
    /// are calibrated; there is no speculation to mitigate; and a program that
    /// is loaded at another address every time is translated anew every time,
    /// which made a process start five times slower.
    fn kernel_arguments(self) -> Option<&'static str> {
        match self {
            Self::Kvm => None,
            Self::Tcg { .. } => Some("no_timer_check tsc=unstable mitigations=off norandmaps"),
        }
    }

    fn device(self) -> Option<&'static str> {
        match self {
            Self::Kvm => Some("/dev/kvm"),
            Self::Tcg { .. } => None,
        }
    }
}

/// Which chipset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// The older one: fewer devices to restore.
    Pc,
    /// The newer one.
    Q35,
}

impl Machine {
    fn argument(self) -> &'static str {
        match self {
            Self::Pc => "pc,usb=off,vmport=off,smbus=off,graphics=off",
            Self::Q35 => "q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off",
        }
    }
}

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The `qemu-system-x86_64` program.
    pub program: PathBuf,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Which chipset.
    pub machine: Machine,
    /// How VMM processes enter their jail.
    pub launcher: Launcher,
    /// Keeps the cgroups of several servers apart.
    pub instance: String,
}

/// Where a QEMU is looked for.
const PROGRAM: &str = "qemu-system-x86_64";

/// Finds QEMU on the `PATH`.
#[must_use]
pub fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(PROGRAM))
        .find(|program| program.is_file())
}

/// QEMU's version, for example `7.2.22`.
pub fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "QEMU emulator version 7.2.22 (Debian …)"
    let version = text
        .split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1);
    version
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("it does not tell its version"))
}

/// The engine.
pub struct Qemu {
    config: QemuConfig,
    description: EngineDescription,
    cgroups: CgroupTree,
    /// Seed memory in use, by file: kept while a VM or a restore needs it.
    sealed: Mutex<HashMap<FileId, Weak<SealedMemory>>>,
    /// The most recent ones, so that an idle host does not load them anew.
    recent: Mutex<Vec<Arc<SealedMemory>>>,
}

/// Seeds whose memory stays loaded though no VM uses it. Each costs what the
/// seed touched, some 150 MB.
const RECENT_SEEDS: usize = 4;

impl Qemu {
    /// An engine that uses this QEMU.
    pub fn new(config: QemuConfig) -> Result<Self, EngineError> {
        let version = version(&config.program).map_err(|error| {
            EngineError::host(format!("cannot run {}", config.program.display()), error)
        })?;
        let snapshot_compatibility = format!(
            "qemu {version} {} {} {}",
            config.accelerator.argument(),
            config.accelerator.cpu_model(),
            config.machine.argument(),
        );
        let description = EngineDescription {
            name: NAME,
            version,
            accelerator: config.accelerator.name(),
            snapshot_compatibility,
        };
        let cgroups = CgroupTree::detect(&config.instance);
        if cgroups.version() == "none" {
            tracing::warn!("no usable cgroups: VMs run without limits on the host's side");
        }
        Ok(Self {
            config,
            description,
            cgroups,
            sealed: Mutex::default(),
            recent: Mutex::default(),
        })
    }

    /// The memory of a seed, or of what a checkpoint links to.
    fn sealed_memory(&self, file: &Path) -> Result<Arc<SealedMemory>, EngineError> {
        let cannot =
            |e| EngineError::host(format!("cannot load seed memory {}", file.display()), e);
        let source = File::open(file).map_err(cannot)?;
        let id = FileId::of(&source).map_err(cannot)?;
        let mut sealed = self.sealed.lock().expect("no panic while held");
        if let Some(memory) = sealed.get(&id).and_then(Weak::upgrade) {
            return Ok(memory);
        }
        let memory = Arc::new(SealedMemory::load(&source).map_err(cannot)?);
        sealed.retain(|_, memory| memory.strong_count() > 0);
        sealed.insert(id, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// Keeps a seed's memory loaded for the next restore.
    fn keep_loaded(&self, memory: &Arc<SealedMemory>) {
        let mut recent = self.recent.lock().expect("no panic while held");
        if recent.iter().any(|kept| Arc::ptr_eq(kept, memory)) {
            return;
        }
        if recent.len() == RECENT_SEEDS {
            recent.remove(0);
        }
        recent.push(Arc::clone(memory));
    }

    async fn start(&self, spec: &VmSpec, how: Start<'_>) -> Result<Arc<dyn Vm>, EngineError> {
        if vmm::find(&spec.place)?.is_some() {
            return Err(EngineError::AlreadyRunning(spec.place.id.clone()));
        }
        let started = self.launch(spec, how).await;
        if started.is_err() {
            self.reap(&spec.place).await?;
        }
        started
    }

    async fn launch(&self, spec: &VmSpec, how: Start<'_>) -> Result<Arc<dyn Vm>, EngineError> {
        let place = &spec.place;
        let mut inherited = Inherited::default();
        let Started {
            arguments,
            memory,
            begin,
        } = self.command_line(spec, how, &mut inherited)?;
        fs::write(place.dir.join(MEMORY_BYTES), memory_bytes(spec).to_string())
            .map_err(|e| EngineError::host("cannot record the memory's size", e))?;
        let root = spec.place.dir.join(JAIL_ROOT);
        fs::create_dir_all(&root)
            .map_err(|e| EngineError::host("cannot make the jail directory", e))?;
        let devices = ["/dev/null", "/dev/urandom"].into_iter();
        let jail = JailSpec {
            netns: NETNS_FD,
            cgroup_procs: self.cgroups.create(&spec.place.id, spec.shape)?,
            confinement: Confinement::Complete {
                root,
                uid: spec.slot.uid(),
                devices: devices
                    .chain(self.config.accelerator.device())
                    .map(PathBuf::from)
                    .collect(),
            },
            pid_file: spec.place.dir.join(PID_FILE),
            program: self.config.program.clone(),
            args: arguments,
        };
        let launch = Launch {
            launcher: &self.config.launcher,
            place,
            slot: &spec.slot,
            jail: &jail,
            inherited: inherited.into_mappings(),
            stdout: Stdio::null(),
        };
        let process = launch.run().await?;
        let vm = QemuVm::connect(place, process, self.cgroups.clone(), memory).await?;
        let begun = vm.begin(begin).await;
        begun.map_err(|error| start_error(place, &error.to_string()))?;
        Ok(vm)
    }

    fn command_line(
        &self,
        spec: &VmSpec,
        how: Start<'_>,
        inherited: &mut Inherited,
    ) -> Result<Started, EngineError> {
        let GuestMemory { memory, origin } = self.guest_memory(spec, how, inherited)?;
        let images = &spec.images;
        let (kernel, initramfs) = match how {
            Start::Boot(_) => (
                inherited.add(open(&images.kernel)?),
                Some(inherited.add(open(&images.initramfs)?)),
            ),
            Start::Seed(_) | Start::Checkpoint(_) => {
                let header = memory::kernel_header(&images.kernel, KERNEL_HEADER)?;
                (inherited.add(header), None)
            }
        };
        let (incoming, begin) = match how {
            Start::Boot(_) => (Incoming::Nothing, Begin::Boot),
            Start::Seed(files) => {
                let state = inherited.add(open(&files.state)?);
                (Incoming::Seed, Begin::Seed { state })
            }
            Start::Checkpoint(files) => {
                let state = inherited.add(open(&files.state)?);
                // Memory of its own has them already.
                let pages = match origin {
                    MemoryOrigin::Sealed(_) => Some(Pages {
                        file: open(&files.memory)?,
                        memory: memory_bytes(spec),
                    }),
                    MemoryOrigin::SeedFile(_) | MemoryOrigin::Vmm => None,
                };
                (Incoming::Devices, Begin::Checkpoint { state, pages })
            }
        };
        let layers = images.layers.iter();
        let layers = layers
            .map(|layer| Ok(inherited.add(open(layer)?)))
            .collect::<Result<Vec<_>, EngineError>>()?;
        let scratch = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&spec.scratch)
            .map_err(|e| EngineError::host("cannot open the scratch disk", e))?;
        let tap = spec
            .slot
            .open_tap()
            .map_err(|e| EngineError::host("cannot open the TAP", e))?;
        let line = CommandLine {
            accelerator: self.config.accelerator,
            machine: self.config.machine,
            shape: spec.shape,
            memory,
            kernel,
            initramfs,
            layers: &layers,
            scratch: inherited.add(scratch),
            tap: inherited.add(tap),
            control: inherited.add(control_socket(spec)?),
            incoming,
        };
        Ok(Started {
            arguments: line.build(),
            memory: origin,
            begin,
        })
    }

    /// Prepares what the guest's memory is mapped from.
    fn guest_memory(
        &self,
        spec: &VmSpec,
        how: Start<'_>,
        inherited: &mut Inherited,
    ) -> Result<GuestMemory, EngineError> {
        let own = || {
            memory::own(memory_bytes(spec))
                .map_err(|e| EngineError::host("cannot make the guest's memory", e))
        };
        match how {
            Start::Boot(BootPurpose::Run) => Ok(GuestMemory {
                memory: Memory::OwnFile(inherited.add(own()?)),
                origin: MemoryOrigin::Vmm,
            }),
            Start::Boot(BootPurpose::Seed) => {
                let path = spec.place.dir.join(SEED_MEMORY);
                let file = seed_memory_file(&path, spec)?;
                Ok(GuestMemory {
                    memory: Memory::OwnFile(inherited.add(file)),
                    origin: MemoryOrigin::SeedFile(path),
                })
            }
            Start::Seed(files) => {
                let memory = self.view(spec, &files.memory, inherited)?;
                if let MemoryOrigin::Sealed(sealed) = &memory.origin {
                    self.keep_loaded(sealed);
                }
                Ok(memory)
            }
            Start::Checkpoint(files) if files.base.exists() => {
                self.view(spec, &files.base, inherited)
            }
            Start::Checkpoint(files) => {
                let own = own()?;
                pages::load_into_file(&open(&files.memory)?, &own, memory_bytes(spec))
                    .map_err(|e| EngineError::host("cannot load the guest's memory", e))?;
                Ok(GuestMemory {
                    memory: Memory::OwnFile(inherited.add(own)),
                    origin: MemoryOrigin::Vmm,
                })
            }
        }
    }

    /// A private view of a seed's memory. The VM keeps a link to its file, so
    /// that its checkpoints have it though the seed goes.
    fn view(
        &self,
        spec: &VmSpec,
        base: &Path,
        inherited: &mut Inherited,
    ) -> Result<GuestMemory, EngineError> {
        let link = spec.place.dir.join(BASE_MEMORY);
        remove_file(&link)?;
        if let Err(error) = fs::hard_link(base, &link) {
            // Another file system: a checkpoint takes it from the VMM.
            tracing::debug!(%error, "no link to the seed's memory");
        }
        let sealed = self.sealed_memory(base)?;
        let fd = sealed
            .descriptor()
            .map_err(|e| EngineError::host("dup", e))?;
        Ok(GuestMemory {
            memory: Memory::PrivateFile(inherited.add(fd)),
            origin: MemoryOrigin::Sealed(sealed),
        })
    }
}

#[derive(Clone, Copy)]
enum Start<'a> {
    Boot(BootPurpose),
    Seed(&'a SnapshotFiles),
    Checkpoint(&'a CheckpointFiles),
}

/// What a QEMU is started with.
struct Started {
    arguments: Vec<OsString>,
    memory: MemoryOrigin,
    begin: Begin,
}

/// A guest's memory, for the command line and for this process.
struct GuestMemory {
    memory: Memory,
    origin: MemoryOrigin,
}

#[async_trait]
impl Engine for Qemu {
    fn describe(&self) -> &EngineDescription {
        &self.description
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities(&[Capability::Pause, Capability::Seed, Capability::Checkpoint])
    }

    async fn boot(&self, spec: &VmSpec, purpose: BootPurpose) -> Result<Arc<dyn Vm>, EngineError> {
        self.start(spec, Start::Boot(purpose)).await
    }

    async fn restore(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        self.start(spec, Start::Seed(snapshot)).await
    }

    async fn restore_bare(
        &self,
        spec: &VmSpec,
        snapshot: &SnapshotFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        self.start_bare(spec, snapshot).await
    }

    async fn restore_checkpoint(
        &self,
        spec: &VmSpec,
        checkpoint: &CheckpointFiles,
    ) -> Result<Arc<dyn Vm>, EngineError> {
        self.start(spec, Start::Checkpoint(checkpoint)).await
    }

    /// What QEMU restores decides with which devices it starts.
    async fn stand_by(&self, _: &VmPlace, _: &Arc<Slot>) -> Result<(), EngineError> {
        Err(EngineError::NotSupported {
            engine: NAME,
            capability: Capability::StandBy,
        })
    }

    async fn adopt(&self, place: &VmPlace) -> Result<Option<Arc<dyn Vm>>, EngineError> {
        let Some(process) = vmm::find(place)? else {
            return Ok(None);
        };
        // A seed that was being taken when its host died is taken anew.
        let origin = MemoryOrigin::Vmm;
        let vm = QemuVm::connect(place, process, self.cgroups.clone(), origin).await?;
        Ok(Some(vm))
    }

    async fn reap(&self, place: &VmPlace) -> Result<(), EngineError> {
        vmm::end(place, &self.cgroups).await?;
        for name in [CONTROL_SOCKET, SEED_MEMORY, BASE_MEMORY, MEMORY_BYTES] {
            remove_file(&place.dir.join(name))?;
        }
        Ok(())
    }

    fn close(&self) {
        self.cgroups.remove_if_empty();
    }
}

fn open(path: &Path) -> Result<File, EngineError> {
    File::open(path).map_err(|e| EngineError::host(format!("cannot open {}", path.display()), e))
}

fn memory_bytes(spec: &VmSpec) -> u64 {
    u64::from(spec.shape.memory_mib) << 20
}

fn seed_memory_file(path: &Path, spec: &VmSpec) -> Result<OwnedFd, EngineError> {
    let make = || {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.set_len(memory_bytes(spec))?;
        std::os::unix::fs::fchown(&file, Some(spec.slot.uid()), Some(spec.slot.uid()))?;
        Ok(file.into())
    };
    make().map_err(|e: io::Error| EngineError::host("cannot make the seed's memory file", e))
}

/// A listening socket that only root can connect to. Passing it means that a
/// connection can be made before QEMU is up.
fn control_socket(spec: &VmSpec) -> Result<OwnedFd, EngineError> {
    let path = spec.place.dir.join(CONTROL_SOCKET);
    remove_file(&path)?;
    let bind = || {
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        chown(&path, Some(0), Some(0))?;
        Ok(listener.into())
    };
    bind().map_err(|e: io::Error| EngineError::host("cannot make the control socket", e))
}
