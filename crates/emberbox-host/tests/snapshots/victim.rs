//! A server in a process of its own that is killed while it takes snapshots.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use emberbox_core::{SandboxId, SnapshotId, VmId};
use emberbox_host::AfterSnapshot;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::rig::{COUNTER, Directory, Rig, create, open_host, say};

/// Says where the victim's directory is; set only for the victim.
const DATA_DIR: &str = "EMBERBOX_TEST_VICTIM";

/// Says what it is to do.
const WANTED: &str = "EMBERBOX_TEST_VICTIM_WANTED";

/// What the victim is killed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One snapshot after the other.
    Snapshots,
    /// The last snapshot of its VM.
    Pause,
}

impl Wanted {
    fn as_str(self) -> &'static str {
        match self {
            Self::Snapshots => "snapshots",
            Self::Pause => "pause",
        }
    }
}

/// The process, once it is started, and what will be left of it.
pub(crate) struct Victim {
    directory: Directory,
    child: Mutex<Option<Child>>,
}

impl Victim {
    pub(crate) fn new(directory: Directory) -> Self {
        Self {
            directory,
            child: Mutex::default(),
        }
    }

    /// Starts it; returns when its VM runs and the work begins.
    pub(crate) async fn serve_and(&self, wanted: Wanted) -> VmId {
        let mut child = Command::new("/proc/self/exe")
            .env(DATA_DIR, self.directory.path())
            .env(WANTED, wanted.as_str())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let vm = lines.next_line().await.unwrap().expect("the victim's VM");
        *self.child.lock().await = Some(child);
        vm.parse().unwrap()
    }

    /// `kill -9` at this moment of its work, whatever that is doing then: no
    /// condition is waited for, the moment is what is tested.
    pub(crate) async fn kill_after(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
        let mut child = self.child.lock().await;
        child.as_mut().unwrap().kill().await.unwrap();
    }

    /// The next server of the same directory.
    pub(crate) async fn reopen(self) -> Rig {
        Rig::open_in(self.directory).await
    }
}

/// Becomes the victim, and never returns, if this process was started as one.
pub(crate) fn run_if_asked() {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else {
        return;
    };
    let pauses = std::env::var(WANTED).unwrap() == Wanted::Pause.as_str();
    let wanted = if pauses {
        Wanted::Pause
    } else {
        Wanted::Snapshots
    };
    Runtime::new()
        .unwrap()
        .block_on(work(PathBuf::from(data_dir), wanted));
    std::process::exit(0);
}

async fn work(data_dir: PathBuf, wanted: Wanted) {
    let (host, _events) = open_host(&data_dir).await;
    let vm = create(&host, &SandboxId::generate()).await;
    say(&host, &vm, COUNTER).await;
    writeln!(&mut std::io::stdout().lock(), "{vm}").unwrap();
    match wanted {
        Wanted::Pause => {
            let id = SnapshotId::generate();
            host.snapshot(&vm, &id, AfterSnapshot::End).await.unwrap();
        }
        Wanted::Snapshots => loop {
            let id = SnapshotId::generate();
            host.snapshot(&vm, &id, AfterSnapshot::GoOn).await.unwrap();
        },
    }
    // To be killed is its end.
    std::future::pending::<()>().await;
}
