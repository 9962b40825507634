//! Boxes of other people's programs, each with what is quickest for it that
//! still is a box of its own: own processes, no network, files it cannot
//! change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::super::{milliseconds, tool};
use super::{Job, Peer, Times};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Podman,
    Crun,
    Runsc,
    Bubblewrap,
}

/// Ready to make boxes.
pub(super) struct Container {
    kind: Kind,
    root: PathBuf,
    /// For bundles and states.
    directory: PathBuf,
    /// Boxes made so far: each needs a name of its own.
    made: usize,
}

impl Kind {
    /// What has to be installed.
    fn needed(self) -> &'static [tool::Needed] {
        match self {
            Self::Podman => &[
                ("podman", "podman", "a peer to compare with"),
                ("crun", "crun", "what podman runs containers with"),
            ],
            Self::Crun => &[("crun", "crun", "a peer to compare with")],
            Self::Runsc => &[("runsc", "runsc", "a peer to compare with")],
            Self::Bubblewrap => &[("bwrap", "bubblewrap", "a peer to compare with")],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Crun => "crun",
            Self::Runsc => "runsc",
            Self::Bubblewrap => "bwrap",
        }
    }
}

impl Container {
    /// Installs the program where its package exists.
    pub(super) fn prepare(kind: Kind, root: &Path, directory: &Path) -> Result<Self> {
        tool::install(kind.needed())
            .with_context(|| format!("{} cannot be installed", kind.name()))?;
        let directory = directory.join(kind.name());
        fs::create_dir(&directory).context("cannot make a directory")?;
        for job in Job::ALL {
            // Not all of them read it.
            let bundle = directory.join(job.words()[0]);
            fs::create_dir(&bundle).context("cannot make a bundle")?;
            let config = serde_json::to_string(&config(root, job))?;
            fs::write(bundle.join("config.json"), config).context("cannot write a bundle")?;
        }
        Ok(Self {
            kind,
            root: root.to_owned(),
            directory,
            made: 0,
        })
    }

    /// One box from its making to its removal, as its program does it all.
    fn command(&self, job: Job) -> Command {
        let bundle = self.directory.join(job.words()[0]);
        let state = self.directory.join("state");
        let id = format!("emberbox-bench-{}-{}", std::process::id(), self.made);
        let mut command = Command::new(self.kind.name());
        match self.kind {
            Kind::Podman => command
                .arg("--root")
                .arg(self.directory.join("storage"))
                .arg("--runroot")
                .arg(state)
                .arg("--tmpdir")
                .arg(self.directory.join("tmp"))
                // Nothing of the machine's own podman is touched.
                .args(["--storage-driver", "vfs", "--runtime", "crun"])
                .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
                .args(["run", "--rm", "--name", &id, "--network", "none"])
                .args([
                    "--read-only",
                    "--cgroups",
                    "disabled",
                    "--log-driver",
                    "none",
                ])
                .arg("--rootfs")
                .arg(&self.root)
                .args(job.words()),
            Kind::Crun => command
                .arg("--root")
                .arg(state)
                .args(["--cgroup-manager", "disabled", "run", "--bundle"])
                .arg(bundle)
                .arg(&id),
            Kind::Runsc => command
                .arg("--root")
                .arg(state)
                .args(["--platform", "ptrace", "--network", "none"])
                .args(["--ignore-cgroups", "run", "--bundle"])
                .arg(bundle)
                .arg(&id),
            Kind::Bubblewrap => command
                .arg("--ro-bind")
                .arg(&self.root)
                .args(["/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"])
                .args(["--unshare-all", "--die-with-parent", "--clearenv"])
                .args(["--setenv", "PATH", PATH])
                .args(job.words()),
        };
        command
    }
}

impl Peer for Container {
    fn run(&mut self, job: Job) -> Result<Times> {
        self.made += 1;
        let mut command = self.command(job);
        let began = Instant::now();
        let output = command.output();
        let removed = milliseconds(began);
        let output = output.with_context(|| format!("cannot run {}", self.kind.name()))?;
        if !output.status.success() {
            bail!("{}", last_words(&output));
        }
        job.check(&String::from_utf8_lossy(&output.stdout))?;
        Ok(Times {
            command: None,
            removed,
        })
    }
}

/// Why it says that it failed.
fn last_words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    match line {
        Some(line) => line.trim().to_owned(),
        None => output.status.to_string(),
    }
}

/// Where the box's programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A bundle's `config.json` (OCI Runtime Specification 1.0.2).
fn config(root: &Path, job: Job) -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount"];
    let namespaces = namespaces.map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": job.words(),
            "env": [format!("PATH={PATH}")],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": root, "readonly": true },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": { "namespaces": namespaces },
    })
}
