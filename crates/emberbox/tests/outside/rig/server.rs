//! A server process with a data directory of its own: started, killed,
//! started again, stopped.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::api::Api;
use super::eventually_within;
use crate::leak::{self, Owned};

/// Longest until it listens: it adopts what runs and may boot a probe VM.
const START: Duration = Duration::from_secs(60);
/// Longest until it has ended after SIGTERM.
const STOP: Duration = Duration::from_secs(30);
/// Lines of its log shown after a failure.
const LOG_LINES: usize = 60;

/// Network slots kept ready: few, because they are made again after each kill.
pub(crate) const SLOTS_READY: usize = 2;

/// VMs kept ready, for the same reason.
pub(crate) const PREPARED: usize = 1;

/// The setting that keeps none.
pub(crate) const NONE_PREPARED: &str = "[pool]\nmax_prepared = 0\n";

/// One data directory and the process that serves it, if one does.
pub(crate) struct Server {
    binary: PathBuf,
    directory: TempDir,
    /// Port 0 for another one after each start.
    listen: SocketAddr,
    running: Option<Running>,
    owned: Owned,
}

struct Running {
    child: Child,
    url: String,
}

impl Server {
    /// Starts a server that knows nothing yet.
    pub(crate) fn start(binary: &Path) -> Self {
        Self::start_with(
            binary,
            &format!("[pool]\nkeep = {PREPARED}\nmax_prepared = {PREPARED}\n"),
        )
    }

    /// The same with more in its configuration.
    pub(crate) fn start_with(binary: &Path, more: &str) -> Self {
        Self::start_at(binary, more, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// The same, and it listens at one place after each start.
    pub(crate) fn start_in_place(binary: &Path, more: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let free = listener.local_addr().unwrap();
        drop(listener);
        Self::start_at(binary, more, free)
    }

    fn start_at(binary: &Path, more: &str, listen: SocketAddr) -> Self {
        // Not 0700: the VMM of a sandbox runs as a user of its own and has to
        // reach its files below.
        let directory = tempfile::Builder::new()
            .prefix("emberbox-outside-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        // Tests ask far faster than any client.
        let config = format!(
            "[network]\npool_size = {SLOTS_READY}\n[limits]\nrequests_per_minute = 0\n{more}"
        );
        fs::write(directory.path().join("config.toml"), config).unwrap();
        let mut server = Self {
            binary: binary.to_owned(),
            directory,
            listen,
            running: None,
            owned: Owned::default(),
        };
        server.restart();
        server
    }

    /// Starts it again on the same data directory.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let address = self.address();
        let running = self.running.insert(Running {
            child: self.spawn(),
            url: String::new(),
        });
        running.url = eventually_within(START, "the server listens", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended at once: {ended:?}");
            let address = fs::read_to_string(&address).ok()?;
            Some(format!("http://{}", address.trim()))
        });
        self.look();
    }

    /// Starts it, kills it so much later, and says whether it had got as far as
    /// to listen.
    pub(crate) fn start_and_kill(&mut self, after: Duration) -> bool {
        assert!(self.running.is_none(), "it runs already");
        let mut child = self.spawn();
        // No condition to wait for: the moment is what is tried.
        thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
        self.look();
        self.address().exists()
    }

    fn spawn(&self) -> Child {
        // A killed server leaves its own behind.
        let _ = fs::remove_file(self.address());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("server.log"))
            .unwrap();
        Command::new(&self.binary)
            .args(["serve", "--log-format", "pretty", "--listen"])
            .arg(self.listen.to_string())
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--bootstrap-key-file")
            .arg(self.directory.path().join("key"))
            .arg("--config")
            .arg(self.directory.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn address(&self) -> PathBuf {
        self.data_dir().join("address")
    }

    /// Ends it as a crash would.
    pub(crate) fn kill_9(&mut self) {
        self.look();
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        self.look();
    }

    /// Notes what it owns now, to know what must not be left later.
    pub(crate) fn look(&mut self) {
        self.owned.look(&self.data_dir());
    }

    /// A client with the key of the first start.
    pub(crate) fn api(&self) -> Api {
        let key = fs::read_to_string(self.directory.path().join("key")).unwrap();
        Api::new(&self.running.as_ref().unwrap().url, key.trim())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// VMs that exist on this machine, seen from the kernel's side.
    pub(crate) fn vms(&self) -> leak::Vms {
        let server = self.running.as_ref().map(|running| running.child.id());
        leak::vms(&self.data_dir(), server)
    }

    /// Ends it with SIGTERM, which it has to answer with success, and says
    /// what is left of it.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.look();
        let mut running = self.running.take().unwrap();
        kill_process(Pid::from_child(&running.child), Signal::TERM).unwrap();
        let status = eventually_within(STOP, "the server ends after SIGTERM", || {
            running.child.try_wait().unwrap()
        });
        let outcome = if status.success() {
            self.owned.gone(&self.data_dir())
        } else {
            Err(format!("the server ended with {status} after SIGTERM"))
        };
        if outcome.is_err() {
            self.show_log();
        }
        outcome
    }

    /// Whether it was stopped and everything of it is gone.
    fn owned_nothing(&self) -> bool {
        self.running.is_none() && self.owned.gone(&self.data_dir()).is_ok()
    }

    fn show_log(&self) {
        let log = fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("  server: {line}");
        }
    }
}

impl Drop for Server {
    /// After a failure: what it runs is ended, so that nothing stands in the
    /// way of the next test.
    fn drop(&mut self) {
        if self.owned_nothing() {
            return;
        }
        self.show_log();
        // A failure here must not hide the one that led here.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if self.running.is_none() {
                self.restart();
            }
            let api = self.api();
            for id in api.live() {
                let _ = api.try_delete(&format!("/sandboxes/{id}"));
            }
        }));
        if let Some(mut running) = self.running.take() {
            let _ = kill_process(Pid::from_child(&running.child), Signal::TERM);
            let _ = running.child.wait();
        }
    }
}
