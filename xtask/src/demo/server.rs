//! The server that is shown: started, killed, started again, ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::api::Api;
use crate::patience::patience;
use crate::setup::Product;

/// Longest until it listens: it adopts what runs and may boot a probe VM.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Longest until it has ended after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition without a notification is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Lines of its log that are shown after a failure: the last request and what
/// led to it.
const LOG_LINES: usize = 40;

/// One server with one data directory, running or not.
pub(crate) struct Server {
    binary: PathBuf,
    /// The `[engine]` table of its settings.
    engine: String,
    directory: PathBuf,
    config: Option<PathBuf>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    url: String,
}

impl Server {
    /// Nothing is started yet.
    pub(crate) fn new(product: &Product, directory: &Path) -> Self {
        Self {
            binary: product.binary.clone(),
            engine: product.engine.toml(),
            directory: directory.to_owned(),
            config: None,
            running: None,
        }
    }

    /// The same with settings of its own.
    pub(crate) fn with_config(mut self, file: &Path) -> Self {
        self.config = Some(file.to_owned());
        self
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.join("key")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// The settings. Where none are given: what is measured, and what looks
    /// every few milliseconds, asks faster than a client may.
    fn write_settings(&self) -> Result<PathBuf> {
        let own = match &self.config {
            Some(file) => fs::read_to_string(file).context("cannot read the settings")?,
            None => "[limits]\nrequests_per_minute = 0\n".to_owned(),
        };
        let file = self.directory.join("settings.toml");
        fs::write(&file, own + &self.engine).context("cannot write the settings")?;
        Ok(file)
    }

    /// Starts it on a free port and waits until it listens.
    pub(crate) fn start(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "the server runs already");
        let address_file = self.data_dir().join("address");
        // A killed server leaves its own behind.
        let _ = fs::remove_file(&address_file);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .context("cannot open the server's log")?;
        let config = self.write_settings()?;
        let child = Command::new(&self.binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "pretty"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--bootstrap-key-file")
            .arg(self.key_file())
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the server's log")?)
            .stderr(log)
            .spawn()
            .context("cannot start the server")?;
        let running = self.running.insert(Running {
            child,
            url: String::new(),
        });
        let deadline = Instant::now() + patience(START_DEADLINE);
        while Instant::now() < deadline {
            if let Some(status) = running
                .child
                .try_wait()
                .context("cannot watch the server")?
            {
                self.running = None;
                bail!("the server ended at once: {status}");
            }
            if let Ok(address) = fs::read_to_string(&address_file) {
                running.url = format!("http://{}", address.trim());
                return Ok(());
            }
            thread::sleep(POLL);
        }
        bail!(
            "the server does not listen after {:?}",
            patience(START_DEADLINE)
        )
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> Result<&str> {
        let running = self.running.as_ref().context("the server does not run")?;
        Ok(&running.url)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        let running = self.running.as_ref().context("the server does not run")?;
        Ok(running.child.id())
    }

    /// A client with the key of the first start.
    pub(crate) fn api(&self) -> Result<Api> {
        let key = fs::read_to_string(self.key_file()).context("no bootstrap key was written")?;
        Ok(Api::new(self.url()?, key.trim()))
    }

    /// SIGKILL, as a crash would be.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the server does not run")?;
        running.child.kill().context("cannot kill the server")?;
        running.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// SIGTERM; it has to end by itself and say success.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let pid = Pid::from_child(&running.child);
        kill_process(pid, Signal::TERM).context("cannot signal the server")?;
        let deadline = Instant::now() + patience(STOP_DEADLINE);
        while Instant::now() < deadline {
            if let Some(status) = running
                .child
                .try_wait()
                .context("cannot watch the server")?
            {
                return ended(status);
            }
            thread::sleep(POLL);
        }
        running.child.kill().context("cannot kill the server")?;
        running.child.wait().context("cannot wait for the server")?;
        let waited = patience(STOP_DEADLINE);
        bail!("the server did not end within {waited:?} of SIGTERM")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Gives it up without ending it and returns its process id.
    pub(crate) fn leave_running(mut self) -> Result<u32> {
        let running = self.running.take().context("the server does not run")?;
        Ok(running.child.id())
    }

    /// Prints the end of its log.
    pub(crate) fn show_log(&self) {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        eprintln!("the server's last lines:");
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("  {line}");
        }
    }
}

fn ended(status: ExitStatus) -> Result<()> {
    ensure!(
        status.success(),
        "the server ended with {status} after SIGTERM"
    );
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
