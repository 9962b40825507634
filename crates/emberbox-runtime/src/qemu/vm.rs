//! One running QEMU.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{OnceCell, watch};
use tokio::time::sleep;

use super::args::CONSOLE_RING_KIB;
use super::memory::SealedMemory;
use super::pages::{self, Mapping};
use super::qmp::{GuestFact, Qmp};
use super::{CONTROL_SOCKET, checkpoint};
use crate::cgroup::CgroupTree;
use crate::disk;
use crate::engine::{
    CheckpointFiles, EngineError, ExitReason, MemoryUse, SnapshotFiles, Vm, VmPlace,
};
use crate::process::Process;
use crate::vmm::charge::{Charge, unexplained};
use crate::vmm::{blocking, console, remove_file, start_error};

/// Between attempts of a guest to write to a disk of this machine that is full.
/// Nothing tells when there is room.
const FULL: Duration = Duration::from_secs(1);

/// Where a VM's memory came from.
pub(super) enum MemoryOrigin {
    /// Not this process's to hold: the VMM has it.
    Vmm,
    /// The file that is to become a seed's memory.
    SeedFile(PathBuf),
    /// A private view of a seed's memory, kept loaded while this VM runs.
    Sealed(Arc<SealedMemory>),
}

/// What a QEMU that was just started is to begin with.
pub(super) enum Begin {
    /// Its kernel boots.
    Boot,
    /// A seed's state, from an inherited descriptor; it runs then.
    Seed { state: RawFd },
    /// A checkpoint's devices, from an inherited descriptor, and the pages that
    /// go into its memory first; it stands still then.
    Checkpoint { state: RawFd, pages: Option<Pages> },
}

/// Pages for a guest of so many bytes of memory.
pub(super) struct Pages {
    pub(super) file: File,
    pub(super) memory: u64,
}

/// A running QEMU.
pub(super) struct QemuVm {
    pub(super) charge: Charge,
    pub(super) qmp: Qmp,
    memory: MemoryOrigin,
    pub(super) mapping: OnceCell<Arc<Mapping>>,
    /// Whether somebody here wants the vCPUs to stand still. Held over the
    /// command: whoever stops and starts them takes turns.
    paused: tokio::sync::Mutex<bool>,
}

impl QemuVm {
    /// Takes charge of a QEMU that runs.
    pub(super) async fn connect(
        place: &VmPlace,
        process: Process,
        cgroups: CgroupTree,
        memory: MemoryOrigin,
    ) -> Result<Arc<Self>, EngineError> {
        let qmp = Qmp::connect(&place.dir.join(CONTROL_SOCKET))
            .await
            .map_err(|error| start_error(place, &error.to_string()))?;
        let vm = Arc::new(Self {
            charge: Charge::new(place, process, cgroups),
            qmp,
            memory,
            mapping: OnceCell::new(),
            paused: tokio::sync::Mutex::default(),
        });
        // A guest that went down while nobody watched.
        let status = vm.qmp.execute("query-status", json!({})).await?;
        let down = matches!(
            status["status"].as_str(),
            Some("shutdown" | "guest-panicked")
        );
        tokio::spawn(Arc::clone(&vm).watch(down));
        tokio::spawn(go_on_when_there_is_room(vm.qmp.full(), Arc::downgrade(&vm)));
        Ok(vm)
    }

    /// Prepares a QEMU that was just started for snapshots, and gives one that
    /// waits for a state what it needs.
    pub(super) async fn begin(&self, start: Begin) -> Result<(), EngineError> {
        // A memory file that is shared is not written into the state as well.
        let on = ["x-ignore-shared", "events"]
            .map(|capability| json!({ "capability": capability, "state": true }));
        self.qmp
            .execute("migrate-set-capabilities", json!({ "capabilities": on }))
            .await?;
        match start {
            Begin::Boot => Ok(()),
            Begin::Seed { state } => {
                self.load_state(state).await?;
                // A state remembers that it was saved paused.
                self.qmp.execute("cont", json!({})).await.map(drop)
            }
            Begin::Checkpoint { state, pages } => {
                // Devices look at guest memory when they are loaded, and the
                // generation id is written to it.
                if let Some(Pages { file, memory }) = pages {
                    let pid = self.pid();
                    blocking("cannot put back memory", move || {
                        pages::load_into_process(&file, pid, memory)
                    })
                    .await?;
                }
                self.load_state(state).await
            }
        }
    }

    async fn load_state(&self, state: RawFd) -> Result<(), EngineError> {
        self.qmp
            .migrate("migrate-incoming", format!("fd:{state}"))
            .await
    }

    /// Waits for the end, finds out why, and cleans up after the process.
    async fn watch(self: Arc<Self>, mut down: bool) {
        let mut said = None;
        tokio::select! {
            how = self.charge.process.wait() => said = how,
            fact = self.qmp.ended(), if !down => match fact {
                GuestFact::Shutdown => down = true,
                GuestFact::Gone => said = self.charge.process.wait().await,
                GuestFact::Alive => {}
            },
            () = std::future::ready(()), if down => {}
        }
        let reason = if down {
            let reason = self.classify_shutdown().await;
            self.charge.end_empty().await;
            reason
        } else {
            let detail = unexplained(said);
            ExitReason::VmmDied { detail }
        };
        self.charge.has_ended(reason).await;
    }

    async fn classify_shutdown(&self) -> ExitReason {
        let size = CONSOLE_RING_KIB * 1024;
        let console = self
            .qmp
            .execute("ringbuf-read", json!({ "device": "console", "size": size }))
            .await;
        let console = console
            .ok()
            .and_then(|text| text.as_str().map(str::to_owned));
        console::reason(&console.unwrap_or_default())
    }

    async fn check_paused(&self, command: &'static str) -> Result<(), EngineError> {
        self.charge.check_running()?;
        let status = self.qmp.execute("query-status", json!({})).await?;
        if status["running"].as_bool() == Some(false) {
            return Ok(());
        }
        let detail = "the VM must be paused first".to_owned();
        Err(EngineError::Control { command, detail })
    }

    async fn save_state(&self, path: &Path) -> Result<(), EngineError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = file.map_err(|e| EngineError::host("cannot make the state file", e))?;
        self.qmp.pass("state", file.as_fd()).await?;
        self.qmp.migrate("migrate", "fd:state".to_owned()).await?;
        file.sync_data()
            .map_err(|e| EngineError::host("cannot write the state file", e))
    }
}

#[async_trait]
impl Vm for QemuVm {
    async fn pause(&self) -> Result<(), EngineError> {
        self.charge.check_running()?;
        let mut paused = self.paused.lock().await;
        *paused = true;
        self.qmp.execute("stop", json!({})).await.map(drop)
    }

    async fn resume(&self) -> Result<(), EngineError> {
        self.charge.check_running()?;
        let mut paused = self.paused.lock().await;
        self.qmp.execute("cont", json!({})).await?;
        *paused = false;
        Ok(())
    }

    async fn snapshot(&self, files: &SnapshotFiles) -> Result<(), EngineError> {
        const COMMAND: &str = "migrate";
        self.check_paused(COMMAND).await?;
        let memory = match &self.memory {
            MemoryOrigin::SeedFile(path) => path,
            MemoryOrigin::Vmm | MemoryOrigin::Sealed(_) => {
                return Err(EngineError::Control {
                    command: COMMAND,
                    detail: "the VM was not booted to be a seed".to_owned(),
                });
            }
        };
        let saved = self.save_state(&files.state).await;
        let saved = saved.and_then(|()| {
            disk::move_file(memory, &files.memory)
                .map_err(|e| EngineError::host("cannot keep the seed's memory", e))
        });
        if saved.is_err() {
            remove_file(&files.state)?;
        }
        saved
    }

    async fn ready_checkpoint(&self) {
        // The checkpoint itself says what is wrong.
        let _ = checkpoint::mapping(self).await;
    }

    async fn checkpoint(&self, files: &CheckpointFiles) -> Result<(), EngineError> {
        self.check_paused("xen-save-devices-state").await?;
        let written = checkpoint::write(self, files).await;
        if written.is_err() {
            for file in files.each() {
                remove_file(file)?;
            }
        }
        written
    }

    async fn stop(&self) -> Result<(), EngineError> {
        self.charge.stop().await?;
        let dir = &self.charge.place.dir;
        remove_file(&dir.join(CONTROL_SOCKET))?;
        remove_file(&dir.join(crate::vmm::PID_FILE))
    }

    async fn wait(&self) -> ExitReason {
        self.charge.wait().await
    }

    async fn memory_use(&self) -> Result<MemoryUse, EngineError> {
        self.charge.memory_use()
    }

    fn pid(&self) -> i32 {
        self.charge.process.pid()
    }
}

/// QEMU stops a guest whose write finds no room (`werror=enospc`), with the
/// write still to be done: an error would break the guest's file system. It
/// tries again when it is told to go on.
async fn go_on_when_there_is_room(mut full: watch::Receiver<u64>, vm: Weak<QemuVm>) {
    while full.changed().await.is_ok() {
        sleep(FULL).await;
        let Some(vm) = vm.upgrade() else { return };
        let paused = vm.paused.lock().await;
        if *paused {
            continue;
        }
        tracing::warn!(vm = %vm.charge.place.id, "a guest stood still: the disk of this machine is full");
        if let Err(error) = vm.qmp.execute("cont", json!({})).await {
            tracing::warn!(vm = %vm.charge.place.id, %error, "a guest cannot go on");
        }
    }
}
