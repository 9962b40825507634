//! The calls this engine makes, as Firecracker's API document names them
//! (`src/firecracker/swagger/firecracker.yaml` there).

use hyper::Method;
use serde::Serialize;

/// One call.
#[derive(Debug)]
pub(in crate::firecracker) enum Call<'a> {
    Machine(Machine<'a>),
    BootSource(BootSource<'a>),
    Drive(Drive<'a>),
    Network(Network<'a>),
    Entropy(Entropy),
    Start,
    Pause,
    Resume,
    CreateSnapshot(CreateSnapshot<'a>),
    LoadSnapshot(LoadSnapshot<'a>),
}

/// `PUT /machine-config`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct Machine<'a> {
    pub(in crate::firecracker) vcpu_count: u32,
    pub(in crate::firecracker) mem_size_mib: u32,
    pub(in crate::firecracker) smt: bool,
    pub(in crate::firecracker) track_dirty_pages: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::firecracker) cpu_template: Option<&'a str>,
}

/// `PUT /boot-source`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct BootSource<'a> {
    pub(in crate::firecracker) kernel_image_path: &'a str,
    pub(in crate::firecracker) initrd_path: &'a str,
    pub(in crate::firecracker) boot_args: &'a str,
}

/// `PUT /drives/{drive_id}`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct Drive<'a> {
    pub(in crate::firecracker) drive_id: &'a str,
    pub(in crate::firecracker) path_on_host: &'a str,
    pub(in crate::firecracker) is_root_device: bool,
    pub(in crate::firecracker) is_read_only: bool,
    pub(in crate::firecracker) rate_limiter: RateLimiter,
}

/// `PUT /network-interfaces/{iface_id}`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct Network<'a> {
    pub(in crate::firecracker) iface_id: &'a str,
    pub(in crate::firecracker) host_dev_name: &'a str,
    pub(in crate::firecracker) guest_mac: &'a str,
    pub(in crate::firecracker) rx_rate_limiter: RateLimiter,
    pub(in crate::firecracker) tx_rate_limiter: RateLimiter,
}

/// `PUT /entropy`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct Entropy {}

/// How fast a device may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::firecracker) struct RateLimiter {
    pub(in crate::firecracker) bandwidth: TokenBucket,
}

/// Tokens are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::firecracker) struct TokenBucket {
    pub(in crate::firecracker) size: u64,
    /// In milliseconds.
    pub(in crate::firecracker) refill_time: u64,
}

/// `PUT /snapshot/create`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct CreateSnapshot<'a> {
    pub(in crate::firecracker) snapshot_type: SnapshotType,
    pub(in crate::firecracker) snapshot_path: &'a str,
    pub(in crate::firecracker) mem_file_path: &'a str,
}

/// Which pages a snapshot writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(in crate::firecracker) enum SnapshotType {
    /// All.
    Full,
    /// Those written since the guest was loaded or last saved.
    Diff,
}

/// `PUT /snapshot/load`
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct LoadSnapshot<'a> {
    pub(in crate::firecracker) snapshot_path: &'a str,
    pub(in crate::firecracker) mem_backend: MemoryBackend<'a>,
    pub(in crate::firecracker) track_dirty_pages: bool,
    pub(in crate::firecracker) resume_vm: bool,
}

/// Where a loaded guest's memory comes from: a file, mapped privately.
#[derive(Debug, Serialize)]
pub(in crate::firecracker) struct MemoryBackend<'a> {
    pub(in crate::firecracker) backend_type: &'static str,
    pub(in crate::firecracker) backend_path: &'a str,
}

/// `PUT /actions`
#[derive(Serialize)]
struct Action {
    action_type: &'static str,
}

/// `PATCH /vm`
#[derive(Serialize)]
struct State {
    state: &'static str,
}

impl Call<'_> {
    /// What it is called in errors and logs.
    pub(in crate::firecracker) fn name(&self) -> &'static str {
        match self {
            Self::Machine(_) => "machine-config",
            Self::BootSource(_) => "boot-source",
            Self::Drive(_) => "drives",
            Self::Network(_) => "network-interfaces",
            Self::Entropy(_) => "entropy",
            Self::Start => "actions/InstanceStart",
            Self::Pause => "vm/Paused",
            Self::Resume => "vm/Resumed",
            Self::CreateSnapshot(_) => "snapshot/create",
            Self::LoadSnapshot(_) => "snapshot/load",
        }
    }

    pub(super) fn method(&self) -> Method {
        match self {
            Self::Pause | Self::Resume => Method::PATCH,
            Self::Machine(_)
            | Self::BootSource(_)
            | Self::Drive(_)
            | Self::Network(_)
            | Self::Entropy(_)
            | Self::Start
            | Self::CreateSnapshot(_)
            | Self::LoadSnapshot(_) => Method::PUT,
        }
    }

    pub(super) fn path(&self) -> String {
        match self {
            Self::Machine(_) => "/machine-config".to_owned(),
            Self::BootSource(_) => "/boot-source".to_owned(),
            Self::Drive(drive) => format!("/drives/{}", drive.drive_id),
            Self::Network(network) => format!("/network-interfaces/{}", network.iface_id),
            Self::Entropy(_) => "/entropy".to_owned(),
            Self::Start => "/actions".to_owned(),
            Self::Pause | Self::Resume => "/vm".to_owned(),
            Self::CreateSnapshot(_) => "/snapshot/create".to_owned(),
            Self::LoadSnapshot(_) => "/snapshot/load".to_owned(),
        }
    }

    pub(super) fn body(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Machine(body) => serde_json::to_vec(body),
            Self::BootSource(body) => serde_json::to_vec(body),
            Self::Drive(body) => serde_json::to_vec(body),
            Self::Network(body) => serde_json::to_vec(body),
            Self::Entropy(body) => serde_json::to_vec(body),
            Self::Start => serde_json::to_vec(&Action {
                action_type: "InstanceStart",
            }),
            Self::Pause => serde_json::to_vec(&State { state: "Paused" }),
            Self::Resume => serde_json::to_vec(&State { state: "Resumed" }),
            Self::CreateSnapshot(body) => serde_json::to_vec(body),
            Self::LoadSnapshot(body) => serde_json::to_vec(body),
        }
    }

    /// Whether it may take as long as writing or reading a guest's memory.
    pub(super) fn moves_memory(&self) -> bool {
        matches!(self, Self::CreateSnapshot(_) | Self::LoadSnapshot(_))
    }
}
