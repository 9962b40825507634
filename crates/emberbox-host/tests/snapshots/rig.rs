//! A host on a data directory of its own, and what the tests ask of its VMs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use emberbox_core::{SandboxId, Shape, SnapshotId, VmId};
use emberbox_guest::client::GuestClient;
use emberbox_guest::{ExecSpec, ExitStatus};
use emberbox_host::{
    AcceleratorChoice, ArtifactsConfig, CreateVm, EngineChoice, Host, HostConfig, HostError,
    HostEvent, Keep, Origin, PoolConfig,
};
use emberbox_image::{BASE_TEMPLATE, Home};
use emberbox_runtime::jail::Launcher;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::victim::Victim;

/// Small, so that the tests are quick.
pub(crate) const SHAPE: Shape = Shape {
    vcpus: 1,
    memory_mib: 512,
    disk_mib: 256,
};

/// Smaller still, where there are many.
pub(crate) const SMALL: Shape = Shape {
    memory_mib: 256,
    ..SHAPE
};

/// Longest a test waits for anything; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room on the small disk: a create wants 1 GiB free and takes little of it.
const SMALL_DISK: &str = "size=1600m";

/// A process that counts in memory.
pub(crate) const COUNTER: &str = r#"
cat > /root/counter.py <<'END'
import os, time
count = 0
while True:
    count += 1
    with open("/dev/shm/count.new", "w") as file: file.write(str(count))
    os.replace("/dev/shm/count.new", "/dev/shm/count")
    time.sleep(0.005)
END
nohup python3 /root/counter.py > /dev/null 2>&1 &
until [ -s /dev/shm/count ]; do sleep 0.01; done
"#;

/// One server's directory.
pub(crate) struct Directory {
    dir: TempDir,
    mounted: bool,
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.mounted {
            // A test that failed leaves VMs whose files are still open.
            let _ = umount2(self.dir.path(), MntFlags::MNT_DETACH);
        }
    }
}

/// A host of its own.
pub(crate) struct Rig {
    pub(crate) host: Arc<Host>,
    pub(crate) events: mpsc::Receiver<HostEvent>,
    directory: Directory,
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

    /// A host whose directory is beside its home.
    pub(crate) async fn open() -> Self {
        Self::open_in(Directory {
            dir: tempfile::tempdir_in(Home::default_path()).unwrap(),
            mounted: false,
        })
        .await
    }

    /// A host on a file system of its own with little room.
    pub(crate) async fn open_on_small_disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tmpfs, none) = (Some("tmpfs"), MsFlags::empty());
        mount(tmpfs, dir.path(), tmpfs, none, Some(SMALL_DISK)).unwrap();
        Self::open_in(Directory { dir, mounted: true }).await
    }

    pub(crate) async fn open_in(directory: Directory) -> Self {
        let (host, events) = open_host(directory.path()).await;
        Self {
            host,
            events,
            directory,
        }
    }

    /// The same directory with a new server.
    pub(crate) async fn reopen(self) -> Self {
        self.host.close().await;
        let Self {
            host, directory, ..
        } = self;
        drop(host);
        Self::open_in(directory).await
    }

    /// The same directory for a server in a process of its own.
    pub(crate) async fn close_for_a_victim(self) -> Victim {
        self.host.close().await;
        Victim::new(self.directory)
    }

    /// Ends everything and checks that nothing is left.
    pub(crate) async fn close(self) {
        for vm in self.host.running() {
            self.host.destroy(&vm).await.unwrap();
        }
        for id in self.host.snapshots().unwrap() {
            self.host.delete_snapshot(&id).await.unwrap();
        }
        assert_eq!(self.vm_directories(), [] as [String; 0]);
        assert_eq!(self.snapshot_names(), [] as [String; 0]);
        self.host.close().await;
        let instance = fs::read_to_string(self.data_dir().join("instance")).unwrap();
        let namespaces = names(Path::new("/run/netns"));
        let mut left = namespaces.iter().filter(|name| name.contains(&instance));
        assert_eq!(left.next(), None);
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) async fn create(&self, sandbox: &SandboxId) -> VmId {
        create(&self.host, sandbox).await
    }

    pub(crate) async fn restore(
        &self,
        sandbox: &SandboxId,
        id: &SnapshotId,
        keep: Keep,
    ) -> Result<VmId, HostError> {
        let id = id.clone();
        let request = CreateVm {
            origin: Origin::Snapshot { id, keep },
            ..request(sandbox)
        };
        let vm = request.vm.clone();
        self.host.create(request).await.map(|_created| vm)
    }

    /// A VM of this shape from its own seed.
    pub(crate) async fn create_as(&self, sandbox: &SandboxId, shape: Shape) -> VmId {
        self.host.seed(BASE_TEMPLATE, shape).await.unwrap();
        let request = CreateVm {
            shape,
            ..request(sandbox)
        };
        let vm = request.vm.clone();
        self.host.create(request).await.unwrap();
        vm
    }

    /// A VM of this shape from a snapshot that stays.
    pub(crate) async fn restore_as(
        &self,
        sandbox: &SandboxId,
        id: &SnapshotId,
        shape: Shape,
    ) -> Result<VmId, HostError> {
        let origin = Origin::Snapshot {
            id: id.clone(),
            keep: Keep::Kept,
        };
        let request = CreateVm {
            origin,
            shape,
            ..request(sandbox)
        };
        let vm = request.vm.clone();
        self.host.create(request).await.map(|_created| vm)
    }

    /// Where the counter is.
    pub(crate) async fn count(&self, vm: &VmId) -> u64 {
        let said = say(&self.host, vm, "cat /dev/shm/count").await;
        said.parse().unwrap()
    }

    /// Waits until the counter is past a number.
    pub(crate) async fn counts_past(&self, vm: &VmId, from: u64) {
        let command = format!("until [ $(cat /dev/shm/count) -gt {from} ]; do sleep 0.01; done");
        say(&self.host, vm, &command).await;
    }

    pub(crate) fn vm_directories(&self) -> Vec<String> {
        names(&self.data_dir().join("vms"))
    }

    /// Everything in the snapshots' directory, finished or not.
    pub(crate) fn snapshot_names(&self) -> Vec<String> {
        names(&self.data_dir().join("snapshots"))
    }

    pub(crate) fn snapshot_file(&self, id: &SnapshotId, file: &str) -> PathBuf {
        let snapshots = self.data_dir().join("snapshots");
        snapshots.join(id.as_str()).join(file)
    }

    /// Waits until something of a snapshot is on the disk.
    pub(crate) async fn begins_to_write(&self, id: &SnapshotId) {
        eventually("the snapshot's first file", async || {
            let begun = |name: &String| name.starts_with(id.as_str());
            self.snapshot_names().iter().any(begun)
        })
        .await;
    }

    pub(crate) fn free_disk(&self) -> u64 {
        let facts = nix::sys::statvfs::statvfs(self.data_dir()).unwrap();
        facts.blocks_available() * facts.fragment_size()
    }
}

/// A host on this directory.
pub(crate) async fn open_host(data_dir: &Path) -> (Arc<Host>, mpsc::Receiver<HostEvent>) {
    let config = HostConfig {
        data_dir: data_dir.to_owned(),
        home: Home::open(Home::default_path()).unwrap(),
        default_image: BASE_TEMPLATE.to_owned(),
        engine: EngineChoice {
            accelerator: AcceleratorChoice::Tcg,
            ..EngineChoice::default()
        },
        launcher: Launcher::this_executable(),
        allowed_private: Vec::new(),
        slot_pool: 1,
        pool: PoolConfig::OFF,
        artifacts: ArtifactsConfig::default(),
    };
    Host::open(config).await.unwrap()
}

/// A VM from the seed of [`SHAPE`].
pub(crate) async fn create(host: &Arc<Host>, sandbox: &SandboxId) -> VmId {
    host.seed(BASE_TEMPLATE, SHAPE).await.unwrap();
    let request = request(sandbox);
    let vm = request.vm.clone();
    host.create(request).await.unwrap();
    vm
}

fn request(sandbox: &SandboxId) -> CreateVm {
    CreateVm {
        vm: VmId::generate(),
        sandbox: sandbox.clone(),
        party: "tests".to_owned(),
        image: BASE_TEMPLATE.to_owned(),
        shape: SHAPE,
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        origin: Origin::Image,
    }
}

/// A command as the tests run it.
pub(crate) fn command(line: &str) -> ExecSpec {
    /// Commands of the tests finish in seconds even on a loaded machine.
    const TIMEOUT_MS: u64 = 120_000;
    ExecSpec {
        command: line.to_owned(),
        cwd: "/".to_owned(),
        timeout_ms: TIMEOUT_MS,
        ..ExecSpec::default()
    }
}

/// Runs a command that must succeed; its stdout without the last newline.
pub(crate) async fn say(host: &Arc<Host>, vm: &VmId, line: &str) -> String {
    let guest: GuestClient = host.guest(vm).unwrap();
    let call = guest.exec(command(line)).await.unwrap();
    let output = call.collect(1 << 20).await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status, ExitStatus::Code(0), "{line}: {stderr}");
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Waits until `holds` says so.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not come");
        sleep(Duration::from_millis(2)).await;
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
