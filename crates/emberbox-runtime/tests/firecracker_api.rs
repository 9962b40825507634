//! The Firecracker engine against Firecracker's API document, without the
//! program: every request of every flow is checked, and every flow meets every
//! fault at each of its requests.
//!
//! Needs root, for network slots and jails; needs no KVM.

#![expect(
    clippy::print_stdout,
    reason = "this executable also is a program that tells its version"
)]
#![expect(clippy::unwrap_used, reason = "a test without its bench cannot go on")]

mod firecracker_api {
    pub(crate) mod document;
    pub(crate) mod fake;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use emberbox_core::{Shape, VmId};
use emberbox_runtime::cgroup::CgroupTree;
use emberbox_runtime::firecracker::{CpuTemplate, Firecracker, FirecrackerConfig, Programs};
use emberbox_runtime::jail::{Launcher, become_jail_if_asked};
use emberbox_runtime::net::{Instance, NetConfig, SlotPool, SlotSet};
use emberbox_runtime::{
    BootImages, BootPurpose, CheckpointFiles, Engine, EngineError, ExitReason, SnapshotFiles, Vm,
    VmPlace, VmSpec,
};
use firecracker_api::document::Document;
use firecracker_api::fake::{self, Behaviour, DIRTY, Fault, MEMORY, Request};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// A flow has some ten requests, none of which takes a second.
const FLOW: Duration = Duration::from_secs(120);

const SHAPE: Shape = Shape {
    vcpus: 2,
    memory_mib: 8,
    disk_mib: 1,
};

/// What an engine is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Boot,
    Restore,
    RestoreCheckpoint,
    RestoreInWaiting,
    PauseAndResume,
    Seed,
    WholeCheckpoint,
    PartialCheckpoint,
    Adopt,
}

const FLOWS: [Flow; 9] = [
    Flow::Boot,
    Flow::Restore,
    Flow::RestoreCheckpoint,
    Flow::RestoreInWaiting,
    Flow::PauseAndResume,
    Flow::Seed,
    Flow::WholeCheckpoint,
    Flow::PartialCheckpoint,
    Flow::Adopt,
];

const FAULTS: [Fault; 6] = [
    Fault::Refuse,
    Fault::Fail,
    Fault::Slow,
    Fault::Cut,
    Fault::Garbage,
    Fault::Exit,
];

fn main() -> ExitCode {
    become_jail_if_asked();
    fake::become_one_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let root = nix::unistd::Uid::effective().is_root();
    if arguments.list || !root {
        if !root {
            eprintln!("Firecracker's contract is not tested: only root can make jails");
        }
        let ignored =
            FLOWS.map(|flow| Trial::test(format!("{flow:?}"), || Ok(())).with_ignored_flag(!root));
        return libtest_mimic::run(&arguments, ignored.into()).exit_code();
    }
    let runtime = Arc::new(Runtime::new().unwrap());
    let bench = Arc::new(runtime.block_on(Bench::open()));
    let trials = FLOWS.map(|flow| {
        let (runtime, bench) = (Arc::clone(&runtime), Arc::clone(&bench));
        Trial::test(format!("{flow:?}"), move || {
            runtime.block_on(check(&bench, flow)).map_err(Failed::from)
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    runtime.block_on(bench.close());
    conclusion.exit_code()
}

/// Runs a flow as it should go, then with every fault at every request.
async fn check(bench: &Bench, flow: Flow) -> Result<(), String> {
    let document = Document::open();
    let went = bench.run(flow, None).await;
    went.outcome.map_err(|error| format!("{flow:?}: {error}"))?;
    for request in &went.requests {
        document.check(request)?;
    }
    if went.requests.len() < 2 {
        return Err(format!("{flow:?} asked for {:?} only", went.requests));
    }
    for at in 0..went.requests.len() {
        for fault in FAULTS {
            let with = format!("{flow:?} with {fault:?} at request {at}");
            let went = bench.run(flow, Some(Behaviour { at, fault })).await;
            match (fault, went.outcome) {
                (Fault::Slow, Ok(())) => {}
                (Fault::Slow, Err(error)) => return Err(format!("{with}: {error}")),
                (_, Ok(())) => return Err(format!("{with} went well")),
                (Fault::Refuse, Err(error)) if !error.contains("told to refuse") => {
                    return Err(format!("{with} does not say why: {error}"));
                }
                (_, Err(_)) => {}
            }
            for request in &went.requests {
                document.check(request)?;
            }
        }
    }
    Ok(())
}

/// How a flow went.
struct Went {
    outcome: Result<(), String>,
    requests: Vec<Request>,
}

struct Bench {
    engine: Firecracker,
    again: Firecracker,
    slots: Arc<SlotPool>,
    instance: Instance,
    cgroups: CgroupTree,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let program = |name: &str| {
            let path = dir.path().join(name);
            // The same file system is not certain.
            fs::hard_link(&own, &path)
                .or_else(|_| fs::copy(&own, &path).map(drop))
                .unwrap();
            path
        };
        let programs = Programs {
            firecracker: program("firecracker"),
            jailer: Some(program("jailer")),
        };
        for name in ["kernel", "initramfs", "layer"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let instance = Instance::from_bits(std::process::id());
        let net = NetConfig {
            pool_size: 1,
            ..NetConfig::new(instance)
        };
        let engine = || {
            Firecracker::new(FirecrackerConfig {
                programs: programs.clone(),
                seccomp_filter: None,
                cpu_template: Some(CpuTemplate::T2A),
                launcher: Launcher::this_executable(),
                instance: instance.to_string(),
            })
            .unwrap()
        };
        Self {
            engine: engine(),
            again: engine(),
            slots: SlotPool::open(net).await.unwrap(),
            instance,
            cgroups: CgroupTree::detect(&instance.to_string()),
            dir,
        }
    }

    async fn close(&self) {
        self.engine.close();
        self.slots.close().await.unwrap();
        let fresh = SlotPool::open(NetConfig {
            pool_size: 0,
            ..NetConfig::new(self.instance)
        });
        let fresh = fresh.await.unwrap();
        fresh.reap_except(&SlotSet::new()).await.unwrap();
        fresh.close().await.unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a flow from nothing to nothing.
    async fn run(&self, flow: Flow, behaviour: Option<Behaviour>) -> Went {
        let written = serde_json::to_vec(&behaviour).unwrap();
        fs::write(fake::behaviour_file(self.dir.path()), written).unwrap();
        let _ = fs::remove_file(fake::requests_file(self.dir.path()));
        let id = VmId::generate();
        let dir = self.dir.path().join("vms").join(id.as_str());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("scratch"), "disk").unwrap();
        let slot = self.slots.take().await.unwrap();
        let spec = VmSpec {
            scratch: dir.join("scratch"),
            place: VmPlace { id, dir },
            shape: SHAPE,
            images: BootImages {
                kernel: self.file("kernel"),
                initramfs: self.file("initramfs"),
                layers: vec![self.file("layer"), self.file("layer")],
            },
            slot,
        };
        let walked = tokio::time::timeout(FLOW, self.walk(flow, &spec)).await;
        let outcome = walked.unwrap_or_else(|_elapsed| Err("it did not end".to_owned()));
        let left = self.left(&spec.place);
        self.engine.reap(&spec.place).await.unwrap();
        self.slots.discard(&spec.slot).await.unwrap();
        fs::remove_dir_all(&spec.place.dir).unwrap();
        let requests = fs::read_to_string(fake::requests_file(self.dir.path()));
        let requests = requests.unwrap_or_default();
        Went {
            outcome: match left {
                left if left.is_empty() => outcome,
                left => panic!("{flow:?} with {behaviour:?} left {left:?}: {outcome:?}"),
            },
            requests: requests
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        }
    }

    async fn walk(&self, flow: Flow, spec: &VmSpec) -> Result<(), String> {
        let started = match flow {
            Flow::Boot | Flow::PauseAndResume | Flow::WholeCheckpoint | Flow::Adopt => {
                self.engine.boot(spec, BootPurpose::Run).await
            }
            Flow::Seed => self.engine.boot(spec, BootPurpose::Seed).await,
            Flow::Restore | Flow::PartialCheckpoint => {
                self.engine.restore(spec, &self.seed()).await
            }
            Flow::RestoreInWaiting => self.restore_in_waiting(spec).await,
            Flow::RestoreCheckpoint => {
                self.seed();
                let files = CheckpointFiles::in_dir(&self.file("checkpoint"));
                self.engine.restore_checkpoint(spec, &files).await
            }
        };
        let vm = started.map_err(chain)?;
        let done = self.act(flow, spec, &vm).await;
        vm.stop().await.map_err(chain)?;
        match vm.wait().await {
            // A VMM that ended before is one that died.
            ExitReason::Stopped | ExitReason::VmmDied { .. } => done,
            other => panic!("{flow:?} ended as {other:?}: {done:?}"),
        }
    }

    /// Restores into a VMM that waits in a place of its own, where nothing is
    /// left whatever happens.
    async fn restore_in_waiting(&self, spec: &VmSpec) -> Result<Arc<dyn Vm>, EngineError> {
        let id = VmId::generate();
        let dir = self.dir.path().join("vms").join(id.as_str());
        fs::create_dir_all(&dir).unwrap();
        let place = VmPlace { id, dir };
        let waits = self.engine.stand_by(&place, &spec.slot).await;
        let waited = self.cgroups.processes(&place.id);
        let started = match waits {
            Ok(()) => self.engine.restore(spec, &self.seed()).await,
            Err(error) => Err(error),
        };
        if let Ok(vm) = &started {
            assert_eq!(waited, [vm.pid()], "another VMM was started");
        }
        assert_eq!(self.left(&place), Vec::<String>::new());
        fs::remove_dir_all(&place.dir).unwrap();
        started
    }

    async fn act(&self, flow: Flow, spec: &VmSpec, vm: &Arc<dyn Vm>) -> Result<(), String> {
        match flow {
            Flow::Boot | Flow::Restore | Flow::RestoreInWaiting => Ok(()),
            Flow::RestoreCheckpoint => vm.resume().await.map_err(chain),
            Flow::PauseAndResume => {
                for _ in 0..2 {
                    vm.pause().await.map_err(chain)?;
                }
                for _ in 0..2 {
                    vm.resume().await.map_err(chain)?;
                }
                Ok(())
            }
            Flow::Seed => {
                vm.pause().await.map_err(chain)?;
                let files = SnapshotFiles {
                    memory: self.file("new-memory"),
                    state: self.file("new-state"),
                };
                let written = vm.snapshot(&files).await;
                judge(written, &files.memory, &files.state, b"")
            }
            Flow::WholeCheckpoint | Flow::PartialCheckpoint => {
                vm.pause().await.map_err(chain)?;
                let dir = self.file("new");
                fs::create_dir(&dir).unwrap();
                let files = CheckpointFiles::in_dir(&dir);
                let written = vm.checkpoint(&files).await;
                let base: &[u8] = match flow {
                    Flow::PartialCheckpoint => b"seed memory",
                    _ => b"",
                };
                let judged = judge(written, &files.memory, &files.state, base);
                fs::remove_dir(&dir).unwrap();
                judged?;
                vm.resume().await.map_err(chain)
            }
            Flow::Adopt => {
                let found = self.again.adopt(&spec.place).await.map_err(chain)?;
                let found = found.ok_or("it was not found")?;
                if found.pid() != vm.pid() {
                    return Err("another process was found".to_owned());
                }
                found.pause().await.map_err(chain)
            }
        }
    }

    /// A seed, and a checkpoint beside it.
    fn seed(&self) -> SnapshotFiles {
        let dir = self.file("checkpoint");
        fs::create_dir_all(&dir).unwrap();
        let files = CheckpointFiles::in_dir(&dir);
        let mut memory = vec![0; MEMORY];
        memory[..11].copy_from_slice(b"seed memory");
        fs::write(&files.memory, memory).unwrap();
        fs::write(&files.state, "devices").unwrap();
        SnapshotFiles {
            memory: files.memory,
            state: files.state,
        }
    }

    /// What should not be there of a VM that has ended or never began.
    fn left(&self, place: &VmPlace) -> Vec<String> {
        let processes = self.cgroups.processes(&place.id);
        let mut left: Vec<_> = processes
            .iter()
            .map(|pid| format!("process {pid}"))
            .collect();
        if self.cgroups.exists(&place.id) {
            left.push("a cgroup".to_owned());
        }
        let entries = fs::read_dir(&place.dir).unwrap();
        let entries = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        left.extend(entries.filter(|name| !["scratch", "vmm.log"].contains(&name.as_str())));
        left
    }
}

/// Looks at the files of a snapshot, which are there exactly if it went well,
/// and removes them.
fn judge(
    written: Result<(), EngineError>,
    memory: &Path,
    state: &Path,
    begins: &[u8],
) -> Result<(), String> {
    if let Err(error) = written {
        for file in [memory, state] {
            assert!(!file.exists(), "{} is left", file.display());
        }
        return Err(chain(error));
    }
    let bytes = fs::read(memory).unwrap();
    let (at, dirty) = DIRTY;
    let at = usize::try_from(at).unwrap();
    assert_eq!(bytes.len(), MEMORY);
    assert!(bytes.starts_with(begins), "what was not written is lost");
    assert!(bytes[at..].starts_with(dirty), "what was written is lost");
    assert_eq!(fs::read(state).unwrap(), b"devices");
    fs::remove_file(memory).unwrap();
    fs::remove_file(state).unwrap();
    Ok(())
}

fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
