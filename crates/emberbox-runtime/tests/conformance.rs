//! The conformance suite on the QEMU engine, with real VMs.
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
    let bench = runtime.block_on(Bench::open());
    let bench = match bench {
        Ok(bench) => Arc::new(bench),
        Err(missing) => return skipped(&missing, &arguments),
    };
    let trials = SUITE
        .iter()
        .map(|(name, check)| trial(name, *check, &runtime, &bench))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = runtime.block_on(bench.close());
    if let Err(left) = left {
        eprintln!("left over after the suite: {left}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trial(name: &str, check: Check, runtime: &Arc<Runtime>, bench: &Arc<Bench>) -> Trial {
    let (runtime, bench) = (Arc::clone(runtime), Arc::clone(bench));
    Trial::test(name, move || {
        runtime.block_on(async {
            let outcome = tokio::time::timeout(CHECK, check(&bench.fixture)).await;
            let outcome = outcome.map_err(|_elapsed| Failed::from("it did not end"))?;
            outcome.map_err(|failure| Failed::from(failure.to_string()))
        })
    })
}

/// Everything counted as ignored, with the reason.
fn skipped(reason: &str, arguments: &Arguments) -> ExitCode {
    if !arguments.list {
        eprintln!("conformance suite skipped: {reason}");
        if std::env::var_os("EMBERBOX_REQUIRE_VMS").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let trials = SUITE
        .iter()
        .map(|(name, _)| Trial::test(*name, || Ok(())).with_ignored_flag(true));
    libtest_mimic::run(arguments, trials.collect()).exit_code()
}

struct Bench {
    fixture: Fixture,
    slots: Arc<SlotPool>,
    instance: Instance,
    outside: OutsideWorld,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// `Err` says what is missing on this machine.
    async fn open() -> Result<Self, String> {
        let program = find_program().ok_or("QEMU is not installed")?;
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
        let engine = || {
            let config = QemuConfig {
                program: program.clone(),
                accelerator: Accelerator::TCG,
                machine: Machine::Pc,
                launcher: Launcher::this_executable(),
                instance: instance.to_string(),
            };
            Qemu::new(config).map(Arc::new).map_err(|e| e.to_string())
        };
        let fixture = Fixture {
            engine: engine()? as Arc<dyn Engine>,
            again: engine()?,
            slots: Arc::clone(&slots),
            images: BootImages {
                kernel: images.kernel,
                initramfs: images.initramfs,
                layers: images.layers,
            },
            make_scratch: |path, mib| {
                emberbox_image::make_scratch(path, mib).map_err(std::io::Error::other)
            },
            dir: dir.path().to_owned(),
            cgroups: CgroupTree::detect(&instance.to_string()),
            outside: outside.addresses(),
            seed: tokio::sync::OnceCell::new(),
        };
        Ok(Self {
            fixture,
            slots,
            instance,
            outside,
            _dir: dir,
        })
    }

    /// Closes everything; `Err` names what is left. Checks that failed may have
    /// left their VMs, which are not what is asked about here.
    async fn close(&self) -> Result<(), String> {
        let entries = std::fs::read_dir(&self.fixture.dir).map_err(|e| e.to_string())?;
        for dir in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let id = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(id) = id {
                let place = VmPlace { id, dir };
                self.fixture
                    .engine
                    .reap(&place)
                    .await
                    .map_err(|e| e.to_string())?;
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
        self.fixture.cgroups.remove_if_empty();
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
