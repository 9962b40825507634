//! The conformance suite on every engine this machine has, with real VMs.
//!
//! Needs root and the guest images in `EMBERBOX_HOME` (`cargo xtask setup`).

mod conformance {
    //! What stands around the engine under test.
    pub(crate) mod outside;
}

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conformance::outside::OutsideWorld;
use emberbox_image::Home;
use emberbox_runtime::cgroup::CgroupTree;
use emberbox_runtime::conformance::{Check, Fixture, SUITE};
use emberbox_runtime::firecracker::{Firecracker, FirecrackerConfig, Jailing, find_programs};
use emberbox_runtime::jail::{Launcher, become_jail_if_asked};
use emberbox_runtime::net::{Instance, NetConfig, SlotPool, SlotSet};
use emberbox_runtime::qemu::{Accelerator, Machine, Qemu, QemuConfig, find_program};
use emberbox_runtime::{BootImages, Engine, VmPlace};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// The longest check boots several VMs; a loaded machine gets many times that.
const CHECK: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    become_jail_if_asked();
    let mut arguments = Arguments::from_args();
    // The checks share two cores with the VMs they start.
    arguments.test_threads = Some(1);
    if arguments.list || !nix::unistd::Uid::effective().is_root() {
        return skipped("only root can make VMs", &arguments);
    }
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let world = match runtime.block_on(World::open()) {
        Ok(world) => world,
        Err(missing) => return skipped(&missing, &arguments),
    };
    let (mut trials, mut fixtures) = (Vec::new(), Vec::new());
    for kind in KINDS {
        match world.fixture(kind) {
            Ok(fixture) => {
                let fixture = Arc::new(fixture);
                trials.extend(trials_of(kind, &runtime, &fixture));
                fixtures.push(fixture);
            }
            Err(missing) => {
                eprintln!("conformance suite skipped for {kind:?}: {missing}");
                trials.extend(ignored(kind));
            }
        }
    }
    if fixtures.is_empty() && std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some() {
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(left) = runtime.block_on(world.close(&fixtures)) {
        eprintln!("left over after the suite: {left}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// An engine under test.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Qemu,
    Firecracker,
}

const KINDS: [Kind; 2] = [Kind::Qemu, Kind::Firecracker];

fn name(kind: Kind, check: &str) -> String {
    format!("{kind:?}::{check}").to_lowercase()
}

fn trials_of(
    kind: Kind,
    runtime: &Arc<Runtime>,
    fixture: &Arc<Fixture>,
) -> impl Iterator<Item = Trial> {
    SUITE.iter().map(move |(check_name, check)| {
        let (runtime, fixture, check) = (Arc::clone(runtime), Arc::clone(fixture), *check);
        Trial::test(name(kind, check_name), move || {
            runtime.block_on(run(check, &fixture))
        })
    })
}

async fn run(check: Check, fixture: &Fixture) -> Result<(), Failed> {
    let outcome = tokio::time::timeout(CHECK, check(fixture)).await;
    let outcome = outcome.map_err(|_elapsed| Failed::from("it did not end"))?;
    outcome.map_err(|failure| Failed::from(failure.to_string()))
}

fn ignored(kind: Kind) -> impl Iterator<Item = Trial> {
    SUITE
        .iter()
        .map(move |(check, _)| Trial::test(name(kind, check), || Ok(())).with_ignored_flag(true))
}

/// Everything counted as ignored, with the reason.
fn skipped(reason: &str, arguments: &Arguments) -> ExitCode {
    if !arguments.list {
        eprintln!("conformance suite skipped: {reason}");
        if std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let trials = KINDS.into_iter().flat_map(ignored).collect();
    libtest_mimic::run(arguments, trials).exit_code()
}

/// What the engines under test have in common.
struct World {
    images: BootImages,
    slots: Arc<SlotPool>,
    instance: Instance,
    outside: OutsideWorld,
    dir: tempfile::TempDir,
}

impl World {
    /// `Err` says what is missing on this machine.
    async fn open() -> Result<Self, String> {
        let home = Home::open(Home::default_path()).map_err(|e| e.to_string())?;
        let images = emberbox_image::images(&home, emberbox_image::BASE_TEMPLATE)
            .map_err(|e| e.to_string())?
            .ok_or("no guest images: run `cargo xtask setup`")?;
        let dir = tempfile::tempdir_in(home.root()).map_err(|e| e.to_string())?;
        let outside = OutsideWorld::open();
        let instance = Instance::from_bits(std::process::id());
        let mut net = NetConfig::new(instance);
        net.upstream_dns = Some(vec![outside.resolver]);
        let slots = SlotPool::open(net).await.map_err(|e| e.to_string())?;
        Ok(Self {
            images: BootImages {
                kernel: images.kernel,
                initramfs: images.initramfs,
                layers: images.layers,
            },
            slots,
            instance,
            outside,
            dir,
        })
    }

    /// `Err` says what an engine lacks on this machine.
    fn fixture(&self, kind: Kind) -> Result<Fixture, String> {
        let dir = self.dir.path().join(format!("{kind:?}"));
        let fixture = Fixture {
            engine: self.engine(kind)?,
            again: self.engine(kind)?,
            slots: Arc::clone(&self.slots),
            images: self.images.clone(),
            make_scratch: |path, mib| {
                emberbox_image::make_scratch(path, mib).map_err(std::io::Error::other)
            },
            dir,
            cgroups: CgroupTree::detect(&self.instance.to_string()),
            outside: self.outside.addresses(),
            seed: tokio::sync::OnceCell::new(),
        };
        std::fs::create_dir(&fixture.dir).map_err(|e| e.to_string())?;
        Ok(fixture)
    }

    fn engine(&self, kind: Kind) -> Result<Arc<dyn Engine>, String> {
        let (launcher, instance) = (Launcher::this_executable(), self.instance.to_string());
        match kind {
            Kind::Qemu => {
                let config = QemuConfig {
                    program: find_program().ok_or("QEMU is not installed")?,
                    accelerator: Accelerator::TCG,
                    machine: Machine::Pc,
                    launcher,
                    instance,
                };
                let engine = Qemu::new(config).map_err(|e| e.to_string())?;
                Ok(Arc::new(engine))
            }
            Kind::Firecracker => {
                let config = FirecrackerConfig {
                    programs: find_programs(Jailing::On)?,
                    seccomp_filter: std::env::var_os("EMBERBOX_SECCOMP_FILTER").map(PathBuf::from),
                    cpu_template: None,
                    launcher,
                    instance,
                };
                let engine = Firecracker::new(config).map_err(|e| e.to_string())?;
                Ok(Arc::new(engine))
            }
        }
    }

    /// Closes everything; `Err` names what is left. Checks that failed may have
    /// left their VMs, which are not what is asked about here.
    async fn close(&self, fixtures: &[Arc<Fixture>]) -> Result<(), String> {
        for fixture in fixtures {
            let entries = std::fs::read_dir(&fixture.dir).map_err(|e| e.to_string())?;
            for dir in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
                let id = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
                if let Some(id) = id {
                    let reaped = fixture.engine.reap(&VmPlace { id, dir }).await;
                    reaped.map_err(|e| e.to_string())?;
                }
            }
        }
        self.slots.close().await.map_err(|e| e.to_string())?;
        let fresh = SlotPool::open(NetConfig {
            pool_size: 0,
            ..NetConfig::new(self.instance)
        })
        .await;
        let fresh = fresh.map_err(|e| e.to_string())?;
        fresh
            .reap_except(&SlotSet::new())
            .await
            .map_err(|e| e.to_string())?;
        fresh.close().await.map_err(|e| e.to_string())?;
        for fixture in fixtures {
            fixture.engine.close();
        }
        self.outside.close();
        let name = self.instance.to_string();
        let namespaces = std::fs::read_dir("/run/netns").map_err(|e| e.to_string())?;
        let left: Vec<PathBuf> = namespaces
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.to_string_lossy().contains(&name))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("namespaces {left:?}"))
        }
    }
}
