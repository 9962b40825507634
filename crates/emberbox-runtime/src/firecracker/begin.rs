//! What a Firecracker that just listens is told: to boot, or what to load.

use emberbox_core::Shape;

use super::CpuTemplate;
use super::api::ApiError;
use super::api::call::{
    BootSource, Call, Drive, Entropy, LoadSnapshot, Machine, MemoryBackend, Network, RateLimiter,
    TokenBucket,
};
use super::root::{INITRAMFS, KERNEL, MEMORY, SCRATCH, STATE, layer};
use super::vm::FirecrackerVm;
use crate::engine::{EngineError, VmSpec};
use crate::net::{GUEST_MAC, TAP_NAME};
use crate::vmm::guest::{kernel_command_line, mac};

/// Disk throughput of one vCPU: what a local NVMe drive gives to eight of them.
const DISK_BYTES_PER_SEC: u64 = 512 << 20;

/// Network throughput of one vCPU, in each direction: 2 Gbit/s.
const NETWORK_BYTES_PER_SEC: u64 = 256 << 20;

/// What a kernel on a machine without firmware and PCI need not look for, and
/// how it ends: there is no power button, but a reset ends Firecracker.
const MACHINE_ARGUMENTS: &str =
    "reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd i8042.nopnp";

/// What a guest does once it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Run,
    Stand,
}

/// Describes the machine and boots it.
pub(super) async fn boot(
    vm: &FirecrackerVm,
    spec: &VmSpec,
    template: Option<CpuTemplate>,
) -> Result<(), EngineError> {
    let shape = spec.shape;
    vm.call(Call::Machine(Machine {
        vcpu_count: shape.vcpus,
        mem_size_mib: shape.memory_mib,
        smt: false,
        // What booted cold is saved whole; to know more costs every write.
        track_dirty_pages: false,
        cpu_template: template.map(CpuTemplate::name),
    }))
    .await?;
    let layers = spec.images.layers.len();
    let boot_args = format!("{} {MACHINE_ARGUMENTS}", kernel_command_line(layers));
    vm.call(Call::BootSource(BootSource {
        kernel_image_path: KERNEL,
        initrd_path: INITRAMFS,
        boot_args: &boot_args,
    }))
    .await?;
    devices(vm, shape, layers).await?;
    vm.call(Call::Start).await
}

/// Disks in the order in which the agent counts them, network, entropy.
async fn devices(vm: &FirecrackerVm, shape: Shape, layers: usize) -> Result<(), EngineError> {
    let rate_limiter = rate(shape, DISK_BYTES_PER_SEC);
    for drive_id in (0..layers).map(layer) {
        vm.call(Call::Drive(Drive {
            drive_id: &drive_id,
            path_on_host: &format!("/{drive_id}"),
            is_root_device: false,
            is_read_only: true,
            rate_limiter,
        }))
        .await?;
    }
    vm.call(Call::Drive(Drive {
        drive_id: SCRATCH.trim_start_matches('/'),
        path_on_host: SCRATCH,
        is_root_device: false,
        is_read_only: false,
        rate_limiter,
    }))
    .await?;
    let network = rate(shape, NETWORK_BYTES_PER_SEC);
    vm.call(Call::Network(Network {
        iface_id: "net",
        host_dev_name: TAP_NAME,
        guest_mac: &mac(GUEST_MAC),
        rx_rate_limiter: network,
        tx_rate_limiter: network,
    }))
    .await?;
    vm.call(Call::Entropy(Entropy {})).await
}

/// Loads a snapshot, whose disks are shown under the names that it remembers.
pub(super) async fn load(vm: &FirecrackerVm, then: Then) -> Result<(), EngineError> {
    let call = Call::LoadSnapshot(LoadSnapshot {
        snapshot_path: STATE,
        mem_backend: MemoryBackend {
            backend_type: "File",
            backend_path: MEMORY,
        },
        track_dirty_pages: true,
        resume_vm: then == Then::Run,
    });
    vm.api.call(&call).await.map_err(|error| match error {
        ApiError::Refused(detail) => EngineError::Incompatible { detail },
        ApiError::NoAnswer(_) | ApiError::Late(_) => EngineError::Control {
            command: call.name(),
            detail: error.to_string(),
        },
    })
}

/// As much in every second, all of it at once if need be.
fn rate(shape: Shape, bytes_per_sec: u64) -> RateLimiter {
    RateLimiter {
        bandwidth: TokenBucket {
            size: u64::from(shape.vcpus) * bytes_per_sec,
            refill_time: 1000,
        },
    }
}
