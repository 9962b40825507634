//! A host on a data directory of its own that builds, and a look at what a
//! build leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use emberbox_core::{BuildId, BuildLimits, BuildSpec, SandboxId, Shape, VmId};
use emberbox_guest::{ExecSpec, ExitStatus};
use emberbox_host::build::{BuildEvent, BuildFailure, BuildRequest, BuiltImage, RegistryAccess};
use emberbox_host::{
    AcceleratorChoice, ArtifactsConfig, BootPath, CreateVm, EngineChoice, Host, HostConfig, Origin,
    PoolConfig,
};
use emberbox_image::{BASE_TEMPLATE, Home};
use emberbox_runtime::jail::Launcher;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Small, so that the tests are quick.
const SHAPE: Shape = Shape {
    vcpus: 1,
    memory_mib: 512,
    disk_mib: 256,
};

/// A host of its own.
pub(crate) struct Rig {
    pub(crate) host: Arc<Host>,
    pub(crate) registry: RegistryAccess,
    home: Home,
    dir: TempDir,
    /// What was in the home before.
    before: Vec<String>,
}

/// A legal spec with these fields.
pub(crate) fn spec(fields: Value) -> BuildSpec {
    let mut sent = json!({
        "from": BASE_TEMPLATE,
        "vcpu": SHAPE.vcpus,
        "memoryMib": SHAPE.memory_mib,
        "diskMib": SHAPE.disk_mib,
    });
    let fields = fields.as_object().unwrap().clone();
    sent.as_object_mut().unwrap().extend(fields);
    BuildSpec::parse(&sent, &BuildLimits::default()).unwrap()
}

impl Rig {
    /// What this machine lacks for real VMs.
    pub(crate) fn missing() -> Option<String> {
        if !nix::unistd::Uid::effective().is_root() {
            return Some("only root can make VMs".to_owned());
        }
        let home = Home::open(Home::default_path());
        match home.and_then(|home| emberbox_image::images(&home, BASE_TEMPLATE)) {
            Ok(Some(_)) => None,
            Ok(None) => Some("no guest images: run `cargo xtask setup`".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    pub(crate) async fn open() -> Self {
        Self::open_with(Home::default_path().as_path(), ArtifactsConfig::default()).await
    }

    /// One with an image home of its own, that publishes and fetches.
    pub(crate) async fn open_with(home: &Path, artifacts: ArtifactsConfig) -> Self {
        let home = Home::open(home).unwrap();
        let dir = tempfile::tempdir_in(Home::default_path()).unwrap();
        let config = HostConfig {
            data_dir: dir.path().to_owned(),
            home: home.clone(),
            default_image: BASE_TEMPLATE.to_owned(),
            engine: EngineChoice {
                accelerator: AcceleratorChoice::Tcg,
                ..EngineChoice::default()
            },
            launcher: Launcher::this_executable(),
            allowed_private: Vec::new(),
            slot_pool: 1,
            pool: PoolConfig::OFF,
            artifacts,
        };
        let (host, _events) = Host::open(config).await.unwrap();
        Self {
            host,
            registry: RegistryAccess::default(),
            before: left(&home),
            home,
            dir,
        }
    }

    /// What a build says, and how it ends.
    pub(crate) async fn build(
        &self,
        spec: BuildSpec,
    ) -> (Vec<BuildEvent>, Result<BuiltImage, BuildFailure>) {
        self.begin(spec, CancellationToken::new(), |_event| ())
            .await
    }

    /// Cancels a build when it says this.
    pub(crate) async fn cancel_at(&self, spec: BuildSpec, when: &BuildEvent) -> BuildFailure {
        let cancel = CancellationToken::new();
        let watch = |event: &BuildEvent| {
            if event == when {
                cancel.cancel();
            }
        };
        let (_, built) = self.begin(spec, cancel.clone(), watch).await;
        built.unwrap_err()
    }

    async fn begin(
        &self,
        spec: BuildSpec,
        cancel: CancellationToken,
        watch: impl Fn(&BuildEvent),
    ) -> (Vec<BuildEvent>, Result<BuiltImage, BuildFailure>) {
        let (events, mut said) = mpsc::channel(1);
        let building = self.host.build(BuildRequest {
            build: BuildId::generate(),
            spec,
            registry: self.registry.clone(),
            events,
            cancel,
        });
        let listening = async {
            let mut all = Vec::new();
            while let Some(event) = said.recv().await {
                watch(&event);
                all.push(event);
            }
            all
        };
        let (built, all) = tokio::join!(building, listening);
        (all, built)
    }

    /// A sandbox of an image, which has its seed.
    pub(crate) async fn create(&self, image: &str) -> VmId {
        let vm = VmId::generate();
        let created = self.host.create(CreateVm {
            vm: vm.clone(),
            sandbox: SandboxId::generate(),
            party: "tests".to_owned(),
            image: image.to_owned(),
            shape: SHAPE,
            env: BTreeMap::new(),
            origin: Origin::Image,
        });
        assert_eq!(created.await.unwrap().boot_path, BootPath::Snapshot);
        vm
    }

    /// Ends a host whose home goes with the test.
    pub(crate) async fn leave(self) {
        assert_eq!(self.host.running(), [] as [VmId; 0]);
        assert_eq!(self.vm_directories(), [] as [String; 0]);
        self.host.close().await;
    }

    pub(crate) fn vm_directories(&self) -> Vec<String> {
        names(&self.dir.path().join("vms"))
    }

    /// Images that builds made here.
    pub(crate) fn built_images(&self) -> Vec<String> {
        let files = left(&self.home).into_iter();
        let built = files.filter(|file| file.starts_with("built-"));
        built.filter(|file| !self.before.contains(file)).collect()
    }

    /// Ends everything and checks that nothing is left but what later builds
    /// may use.
    pub(crate) async fn close(self) {
        assert_eq!(self.host.running(), [] as [VmId; 0]);
        assert_eq!(self.vm_directories(), [] as [String; 0]);
        let after = left(&self.home).into_iter();
        let new = after.filter(|file| !self.before.contains(file));
        let new: Vec<_> = new
            .filter(|file| !file.ends_with(".erofs") && !file.starts_with(".step-"))
            .collect();
        assert_eq!(new, [] as [String; 0]);
        self.host.close().await;
        let instance = fs::read_to_string(self.dir.path().join("instance")).unwrap();
        let namespaces = names(Path::new("/run/netns"));
        let mut left = namespaces.iter().filter(|name| name.contains(&instance));
        assert_eq!(left.next(), None);
    }
}

/// Runs a command that must succeed; its stdout without the last newline.
pub(crate) async fn run(rig: &Rig, vm: &VmId, line: &str) -> String {
    /// Commands of the tests finish in seconds even on a loaded machine.
    const TIMEOUT_MS: u64 = 120_000;
    let spec = ExecSpec {
        command: line.to_owned(),
        cwd: "/".to_owned(),
        timeout_ms: TIMEOUT_MS,
        ..ExecSpec::default()
    };
    let guest = rig.host.guest(vm).unwrap();
    let output = guest.exec(spec).await.unwrap();
    let output = output.collect(1 << 20).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status, ExitStatus::Code(_)),
        "{line}: {said} {stderr}"
    );
    said.trim_end().to_owned()
}

/// The images and seeds of this machine in a home of their own: links to the
/// same files.
pub(crate) fn link_home(to: &Path) {
    let from = Home::open(Home::default_path()).unwrap();
    for directory in [
        from.kernels(),
        from.initramfs(),
        from.rootfs(),
        from.seeds(),
    ] {
        let name = directory.file_name().unwrap();
        link_all(&directory, &to.join(name));
    }
}

fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            link_all(&path, &target);
        } else {
            fs::hard_link(path, target).unwrap();
        }
    }
}

/// What is in the directories that builds write to.
fn left(home: &Home) -> Vec<String> {
    [home.rootfs(), home.builds()]
        .iter()
        .flat_map(|dir| names(dir))
        .collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
