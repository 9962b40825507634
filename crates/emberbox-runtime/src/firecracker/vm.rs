//! One running Firecracker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::call::Call;
use super::api::{Api, InstanceState};
use super::console::{self, Console};
use super::release::{Release, Version};
use super::root::Root;
use super::snapshot;
use crate::cgroup::CgroupTree;
use crate::engine::{
    CheckpointFiles, EngineError, ExitReason, MemoryUse, SnapshotFiles, Vm, VmPlace,
};
use crate::process::Process;
use crate::vmm;
use crate::vmm::charge::{Charge, unexplained};

/// How long a started VMM may take until it listens. The jailer copies the
/// program first, and a loaded machine needs seconds.
const LISTENS: Duration = Duration::from_secs(60);

/// Between looks whether it does: a hundredth of a restore.
const POLL: Duration = Duration::from_micros(500);

/// A running Firecracker.
pub(super) struct FirecrackerVm {
    pub(super) charge: Charge,
    pub(super) root: Root,
    pub(super) api: Api,
    pub(super) release: Release,
}

/// A Firecracker that listens, of which nobody has taken charge.
pub(super) struct Listening {
    pub(super) root: Root,
    pub(super) process: Process,
    pub(super) console: Console,
    pub(super) api: Api,
    release: Release,
}

impl Listening {
    /// Waits until a Firecracker that runs does.
    pub(super) async fn wait(
        place: &VmPlace,
        root: Root,
        process: Process,
        mut console: Console,
    ) -> Result<Self, EngineError> {
        let open = root
            .open()
            .map_err(|e| EngineError::host("cannot open the jail", e))?;
        let api = Api::in_root(open);
        wait_until_it_listens(&api, &process)
            .await
            .map_err(|what| start_error(place, &mut console, &what))?;
        let instance = api
            .instance()
            .await
            .map_err(|error| start_error(place, &mut console, &error.to_string()))?;
        // An older one than is installed now may still run.
        let version: Version = instance
            .vmm_version
            .parse()
            .map_err(|error| start_error(place, &mut console, &format!("{error}")))?;
        Ok(Self {
            root,
            process,
            console,
            api,
            release: version.release,
        })
    }
}

impl FirecrackerVm {
    /// Takes charge of a Firecracker that listens.
    pub(super) fn of(place: &VmPlace, vmm: Listening, cgroups: CgroupTree) -> Arc<Self> {
        let Listening {
            root,
            process,
            console,
            api,
            release,
        } = vmm;
        let vm = Arc::new(Self {
            charge: Charge::new(place, process, cgroups),
            root,
            api,
            release,
        });
        tokio::spawn(Arc::clone(&vm).watch(console));
        vm
    }

    /// Makes a call whose failure is the command's.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<(), EngineError> {
        self.api
            .call(&call)
            .await
            .map_err(|error| EngineError::Control {
                command: call.name(),
                detail: error.to_string(),
            })
    }

    /// Waits for the end, finds out why, and cleans up after the process.
    async fn watch(self: Arc<Self>, mut console: Console) {
        let end = tokio::select! {
            how = self.charge.process.wait() => End::Process(how),
            () = console.down() => End::Guest,
        };
        if end == End::Guest {
            self.charge.end_empty().await;
        }
        self.charge.has_ended(reason(end, &mut console)).await;
    }

    async fn state(&self, command: &'static str) -> Result<InstanceState, EngineError> {
        self.charge.check_running()?;
        let instance = self.api.instance().await;
        let instance = instance.map_err(|error| EngineError::Control {
            command,
            detail: error.to_string(),
        })?;
        Ok(instance.state)
    }

    async fn check_paused(&self) -> Result<(), EngineError> {
        const COMMAND: &str = "snapshot/create";
        match self.state(COMMAND).await? {
            InstanceState::Paused => Ok(()),
            InstanceState::Running | InstanceState::NotStarted => Err(EngineError::Control {
                command: COMMAND,
                detail: "the VM must be paused first".to_owned(),
            }),
        }
    }
}

/// What ended first.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The process; how, if it was our child.
    Process(Option<String>),
    /// The guest, while its VMM goes on.
    Guest,
}

/// Why a VM that nobody here stopped has ended.
fn reason(end: End, console: &mut Console) -> ExitReason {
    let well = match &end {
        End::Guest => true,
        End::Process(Some(how)) => how == "exit code 0",
        End::Process(None) => console.ended_well(),
    };
    if well {
        return vmm::console::reason(&console.text());
    }
    let how = match end {
        End::Process(how) => unexplained(how),
        End::Guest => unexplained(None),
    };
    let last = console.text();
    let last = last.lines().next_back().unwrap_or_default();
    ExitReason::VmmDied {
        detail: format!("{how}; {last}"),
    }
}

/// `Err` says why it never will.
async fn wait_until_it_listens(api: &Api, process: &Process) -> Result<(), String> {
    let listens = async {
        while !api.listens().await {
            sleep(POLL).await;
        }
    };
    tokio::select! {
        listens = timeout_at(Instant::now() + LISTENS, listens) => {
            listens.map_err(|_elapsed| "it does not listen".to_owned())
        }
        how = process.wait() => {
            let how = how.unwrap_or_else(|| "it is not our child".to_owned());
            Err(format!("it ended at once: {how}"))
        }
    }
}

/// What went wrong, with the last words of VMM and guest.
pub(super) fn start_error(place: &VmPlace, console: &mut Console, what: &str) -> EngineError {
    /// Enough for the reason, which comes last.
    const LINES: usize = 4;
    let text = console.text();
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("; ");
    vmm::start_error(place, &format!("{what}; {last}"))
}

#[async_trait]
impl Vm for FirecrackerVm {
    async fn pause(&self) -> Result<(), EngineError> {
        match self.state("vm/Paused").await? {
            InstanceState::Paused => Ok(()),
            InstanceState::Running | InstanceState::NotStarted => self.call(Call::Pause).await,
        }
    }

    async fn resume(&self) -> Result<(), EngineError> {
        match self.state("vm/Resumed").await? {
            InstanceState::Running => Ok(()),
            InstanceState::Paused | InstanceState::NotStarted => self.call(Call::Resume).await,
        }
    }

    async fn snapshot(&self, files: &SnapshotFiles) -> Result<(), EngineError> {
        self.check_paused().await?;
        snapshot::save(self, &files.memory, &files.state).await
    }

    async fn checkpoint(&self, files: &CheckpointFiles) -> Result<(), EngineError> {
        self.check_paused().await?;
        snapshot::save(self, &files.memory, &files.state).await
    }

    async fn stop(&self) -> Result<(), EngineError> {
        self.charge.stop().await?;
        remove_files(&self.charge.place)
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

/// Removes what this engine made in the directory of a VM that has ended.
/// Idempotent.
pub(super) fn remove_files(place: &VmPlace) -> Result<(), EngineError> {
    Root::remove(place)?;
    for name in [console::FILE, snapshot::BASE_MEMORY, vmm::PID_FILE] {
        vmm::remove_file(&place.dir.join(name))?;
    }
    Ok(())
}
