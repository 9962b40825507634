//! What an operator may set, in one TOML file.
//!
//! Invariant: a file with a key that is not known, or a value that cannot be
//! used, stops the start before anything is opened, and the error names the
//! key.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use emberbox_control::{BillingSettings, BuildSettings, PreviewSettings};
use emberbox_core::Limits;
use emberbox_host::{
    AcceleratorChoice, EngineChoice, EngineKind, FirecrackerChoice, JailerChoice, ProbeDeadline,
};
use emberbox_image::KernelChoice;
use emberbox_runtime::firecracker::CpuTemplate;
use ipnet::Ipv4Net;
use serde::Deserialize;

mod artifacts;
mod billing;
mod builds;
mod pool;
mod preview;
mod tls;

use artifacts::Artifacts;
use pool::Pool;
use tls::TlsConfig;

/// Longest a create may wait for its sandbox when it does not say how long:
/// clients give a whole call 30 to 60 s.
const MAX_GRACE_SEC: u32 = 25;

/// Most network slots kept ready. Each is a namespace with two links, some
/// 100 KB of kernel memory; a burst larger than this makes its own.
const MAX_POOL_SIZE: usize = 256;

/// Longest a probe VM may take. Even emulated hardware boots one in less.
const MAX_PROBE_TIMEOUT_SEC: u16 = 600;

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) tls: TlsConfig,
    pub(crate) engine: Engine,
    pub(crate) guest: Guest,
    pub(crate) network: Network,
    pub(crate) pool: Pool,
    /// Where previews are served.
    pub(crate) preview: PreviewSettings,
    /// What a tenant may use.
    pub(crate) limits: Limits,
    /// What running costs.
    pub(crate) billing: BillingSettings,
    /// How templates are built.
    pub(crate) builds: BuildSettings,
    pub(crate) artifacts: Artifacts,
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    /// Where it listens, unless `--listen` says otherwise.
    pub(crate) listen: SocketAddr,
    /// Where it listens for TLS as well; needs `tls`.
    pub(crate) listen_https: Option<SocketAddr>,
    /// How long a create waits for its sandbox before it answers.
    grace_sec: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            listen_https: None,
            grace_sec: 5,
        }
    }
}

impl Server {
    /// How long a create waits for its sandbox before it answers.
    pub(crate) fn grace_ms(&self) -> u64 {
        u64::from(self.grace_sec) * 1000
    }
}

/// What runs the VMs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Engine {
    pub(crate) kind: EngineKind,
    pub(crate) accel: AcceleratorChoice,
    /// Whether Firecracker is confined by its jailer.
    pub(crate) jailer: JailerChoice,
    /// Compiled filters for a Firecracker that was built without any.
    pub(crate) seccomp_filter: Option<PathBuf>,
    /// What Firecracker's guests see of the processor.
    pub(crate) cpu_template: Option<CpuTemplate>,
    /// How long a VM may take to show that KVM works.
    probe_timeout_sec: u16,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            kind: EngineKind::default(),
            accel: AcceleratorChoice::default(),
            jailer: JailerChoice::default(),
            seccomp_filter: None,
            cpu_template: None,
            probe_timeout_sec: 15,
        }
    }
}

impl Engine {
    /// What a host is told.
    pub(crate) fn choice(&self) -> EngineChoice {
        EngineChoice {
            kind: self.kind,
            accelerator: self.accel,
            firecracker: FirecrackerChoice {
                jailer: self.jailer,
                seccomp_filter: self.seccomp_filter.clone(),
                cpu_template: self.cpu_template,
            },
            probe_deadline: ProbeDeadline(Duration::from_secs(self.probe_timeout_sec.into())),
        }
    }
}

/// What runs in the VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Guest {
    /// A bzImage of the operator's; the distribution's kernel when absent.
    kernel: Option<PathBuf>,
    /// The `lib/modules/RELEASE` that belongs to it; none when all it needs is
    /// built in.
    kernel_modules: Option<PathBuf>,
    /// Guests trust the certificate authorities this machine was made to
    /// trust.
    pub(crate) trust_host_ca: bool,
}

impl Guest {
    /// Which kernel guests run.
    pub(crate) fn kernel(&self) -> KernelChoice {
        match &self.kernel {
            None => KernelChoice::Distribution,
            Some(image) => KernelChoice::Own {
                image: image.clone(),
                modules: self.kernel_modules.clone(),
            },
        }
    }
}

/// What sandboxes reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Network {
    /// Private ranges that are allowed nevertheless.
    pub(crate) allowed_private: Vec<Ipv4Net>,
    /// Network slots kept ready.
    pub(crate) pool_size: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            allowed_private: Vec::new(),
            pool_size: 8,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key or a value of the wrong type.
    #[error("the configuration {path} cannot be used")]
    Parse {
        path: String,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is outside its range.
    #[error("{key} {problem}")]
    Value { key: &'static str, problem: String },
}

impl Config {
    /// Reads and checks a file; the defaults when there is none.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let config = match path {
            None => Self::default(),
            Some(path) => {
                let shown = path.display().to_string();
                let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
                    path: shown.clone(),
                    source,
                })?;
                Self::parse(&text).map_err(|source| ConfigError::Parse {
                    path: shown,
                    source: Box::new(source),
                })?
            }
        };
        config.check()?;
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.server.grace_sec > MAX_GRACE_SEC {
            return Err(at_most("server.grace_sec", MAX_GRACE_SEC));
        }
        if self.network.pool_size > MAX_POOL_SIZE {
            return Err(at_most("network.pool_size", MAX_POOL_SIZE));
        }
        if self.engine.probe_timeout_sec == 0 {
            return Err(not_zero("engine.probe_timeout_sec"));
        }
        if self.engine.probe_timeout_sec > MAX_PROBE_TIMEOUT_SEC {
            return Err(at_most("engine.probe_timeout_sec", MAX_PROBE_TIMEOUT_SEC));
        }
        if self.guest.kernel.is_none() && self.guest.kernel_modules.is_some() {
            return Err(ConfigError::Value {
                key: "guest.kernel_modules",
                problem: "belongs to guest.kernel, which is not set".to_owned(),
            });
        }
        if (self.engine.kind, self.engine.accel)
            == (EngineKind::Firecracker, AcceleratorChoice::Tcg)
        {
            return Err(ConfigError::Value {
                key: "engine.accel",
                problem: "is tcg, but Firecracker runs on KVM only".to_owned(),
            });
        }
        for (key, path) in [
            ("engine.seccomp_filter", &self.engine.seccomp_filter),
            ("guest.kernel", &self.guest.kernel),
            ("guest.kernel_modules", &self.guest.kernel_modules),
        ] {
            if let Some(path) = path
                && !path.exists()
            {
                return Err(ConfigError::Value {
                    key,
                    problem: format!("names {}, which does not exist", path.display()),
                });
            }
        }
        self.pool.check()?;
        self.artifacts.check()?;
        self.check_tls()?;
        preview::check(&self.preview)?;
        billing::check(&self.billing)?;
        builds::check(&self.builds)?;
        check_limits(&self.limits)
    }
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let positive = [
        ("limits.max_vcpus", limits.max_vcpus),
        ("limits.max_memory_mib", limits.max_memory_mib),
        ("limits.max_disk_mib", limits.max_disk_mib),
        ("limits.max_sandboxes", limits.max_sandboxes),
        ("limits.max_exec_timeout_sec", limits.max_exec_timeout_sec),
        (
            "limits.default_exec_timeout_sec",
            limits.default_exec_timeout_sec,
        ),
        ("limits.default_timeout_sec", limits.default_timeout_sec),
        ("limits.max_timeout_sec", limits.max_timeout_sec),
    ];
    for (key, value) in positive {
        if value == 0 {
            return Err(not_zero(key));
        }
    }
    if limits.default_exec_timeout_sec > limits.max_exec_timeout_sec {
        return Err(at_most(
            "limits.default_exec_timeout_sec",
            limits.max_exec_timeout_sec,
        ));
    }
    if limits.default_timeout_sec > limits.max_timeout_sec {
        return Err(at_most(
            "limits.default_timeout_sec",
            limits.max_timeout_sec,
        ));
    }
    Ok(())
}

fn not_zero(key: &'static str) -> ConfigError {
    ConfigError::Value {
        key,
        problem: "must not be 0".to_owned(),
    }
}

fn at_most(key: &'static str, most: impl std::fmt::Display) -> ConfigError {
    ConfigError::Value {
        key,
        problem: format!("must be at most {most}"),
    }
}

#[cfg(test)]
mod tests;
