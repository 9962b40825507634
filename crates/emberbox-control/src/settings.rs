//! What an operator may set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use emberbox_core::{Limits, Prices};
use emberbox_store::BillingTerms;
use serde::{Deserialize, Serialize};

use crate::preview::host;

/// The control plane's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What each tenant may use.
    pub limits: Limits,
    /// How long `POST /sandboxes` waits for the sandbox to be ready before it
    /// answers with the state that is true then, in milliseconds.
    pub create_grace_ms: u64,
    /// Where previews are served.
    pub preview: PreviewSettings,
    /// What running costs, and what becomes of who cannot pay.
    pub billing: BillingSettings,
    /// How templates are built.
    pub builds: BuildSettings,
    /// Holds the key that signs what opens a terminal; made when it is not
    /// there. Without one the key lasts as long as the process.
    pub terminal_key: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            // Well under the official clients' timeouts (60 s and 30 s), well
            // over a restore even in software emulation.
            create_grace_ms: 5_000,
            preview: PreviewSettings::default(),
            billing: BillingSettings::default(),
            builds: BuildSettings::default(),
            terminal_key: None,
        }
    }
}

/// How templates are built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildSettings {
    /// Builds that go on at the same time.
    pub concurrency: u32,
    /// Builds of one tenant that are not over at the same time.
    pub max_open: u32,
    /// Templates of one tenant that exist at the same time.
    pub max_templates: u32,
    /// How registries are reached, by host name, for example `docker.io`.
    pub registries: BTreeMap<String, RegistrySettings>,
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self {
            // A build has a VM of its own and writes gigabytes; two of them on
            // a small machine are slower than one after the other.
            concurrency: 1,
            // A few of each template that is worked on.
            max_open: 10,
            max_templates: 100,
            registries: BTreeMap::new(),
        }
    }
}

/// How one registry is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// A base URL that is asked instead, for example a cache.
    pub mirror: Option<String>,
    /// Who to be there.
    pub username: Option<String>,
    /// A file with the password or token of `username`; read for each build,
    /// so that it may be renewed.
    pub password_file: Option<PathBuf>,
}

/// What running costs, in millionths of a credit, and what becomes of who
/// cannot pay. Everything is counted whatever it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BillingSettings {
    /// One vCPU for one hour.
    pub vcpu_hour_micro: u32,
    /// One GiB of memory for one hour.
    pub memory_gib_hour_micro: u32,
    /// One GiB of disk for one hour.
    pub disk_gib_hour_micro: u32,
    /// One GiB to the outside.
    pub egress_gib_micro: u32,
    /// Whether an account that cannot pay is refused new sandboxes.
    pub enforce: bool,
    /// What an account must have for a new sandbox.
    pub minimum_balance_micro: i64,
    /// What becomes of running sandboxes when nothing is left; only with
    /// `enforce`.
    pub on_empty: OnEmpty,
    /// Whether the disk of a paused sandbox counts.
    pub paused_disk: bool,
    /// Time between settlements, and between samples of what sandboxes take.
    pub settle_interval_sec: u32,
}

impl Default for BillingSettings {
    fn default() -> Self {
        Self {
            vcpu_hour_micro: 0,
            memory_gib_hour_micro: 0,
            disk_gib_hour_micro: 0,
            egress_gib_micro: 0,
            enforce: false,
            minimum_balance_micro: 0,
            on_empty: OnEmpty::default(),
            paused_disk: false,
            // The most that a VM which dies with its server runs for nothing.
            settle_interval_sec: 60,
        }
    }
}

impl BillingSettings {
    /// As the store keeps them.
    pub(crate) fn terms(&self) -> BillingTerms {
        BillingTerms {
            prices: Prices {
                vcpu_hour: self.vcpu_hour_micro,
                memory_gib_hour: self.memory_gib_hour_micro,
                disk_gib_hour: self.disk_gib_hour_micro,
                egress_gib: self.egress_gib_micro,
            },
            enforce: self.enforce,
            minimum_balance: self.minimum_balance_micro,
            paused_disk: self.paused_disk,
        }
    }
}

/// What becomes of running sandboxes of an account with nothing left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnEmpty {
    /// They are paused and can go on once there is credit.
    #[default]
    Pause,
    /// They are destroyed.
    Destroy,
    /// They go on.
    Keep,
}

/// Where previews are served: at `{slug}.sandbox.{domain}` and
/// `{port}-{slug}.sandbox.{domain}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewSettings {
    /// The domain, in lower case. Browsers resolve names below `localhost` to
    /// their own machine.
    pub domain: String,
    /// The scheme of the addresses that are told.
    pub scheme: Scheme,
    /// The port of the addresses that are told; where the server listens when
    /// absent.
    pub public_port: Option<u16>,
    /// How long a guest may be silent before the head of its answer.
    pub head_timeout_sec: u32,
    /// Connections to one sandbox at the same time.
    pub max_connections: usize,
    /// How long an upgraded connection, a WebSocket above all, may be silent
    /// on both sides.
    pub tunnel_idle_sec: u32,
    /// Whether a visit wakes a paused sandbox that is persistent.
    pub wake: bool,
}

impl Default for PreviewSettings {
    fn default() -> Self {
        Self {
            domain: "localhost".to_owned(),
            scheme: Scheme::Http,
            public_port: None,
            // A development server that compiles its first page on a busy
            // machine takes tens of seconds.
            head_timeout_sec: 120,
            // A browser opens six to a host; this is forty of them, and far
            // below what one guest's share of descriptors should be.
            max_connections: 256,
            // Pages that are looked at say something every minute or so; this
            // ends what is left of closed laptops.
            tunnel_idle_sec: 3600,
            // A crawler would keep every sandbox awake.
            wake: false,
        }
    }
}

impl PreviewSettings {
    /// Whether `domain` is one that previews can be served below.
    #[must_use]
    pub fn is_domain(domain: &str) -> bool {
        host::is_domain(domain)
    }
}

/// How a preview is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS, ended by this server or in front of it.
    Https,
}

impl Scheme {
    /// As it stands in an address.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
