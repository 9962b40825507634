//! What Prometheus is told.

use std::sync::OnceLock;
use std::time::Duration;

use emberbox_host::{BootPath, PoolFacts};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::control::Control;

/// Upper bounds in seconds: from a warm claim to a cold boot in emulation.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0,
];

/// One recorder per process, whoever asks first: the `metrics` crate has one
/// global recorder.
static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

fn handle() -> Option<&'static PrometheusHandle> {
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets(&BUCKETS)
                .and_then(PrometheusBuilder::install_recorder)
                .inspect_err(|error| tracing::warn!(%error, "metrics are off"))
                .ok()
        })
        .as_ref()
}

/// Installs the recorder; without it nothing is counted.
pub(crate) fn install() {
    handle();
}

/// A sandbox became ready.
pub(crate) fn created(boot_path: BootPath, took: Duration) {
    let boot_path = boot_path.as_str();
    metrics::histogram!("emberbox_sandbox_create_seconds", "boot_path" => boot_path).record(took);
}

/// A request was answered.
pub(crate) fn answered(method: &str, route: &str, status: u16, took: Duration) {
    let (method, route) = (method.to_owned(), route.to_owned());
    metrics::counter!(
        "emberbox_http_requests_total",
        "method" => method.clone(), "route" => route.clone(), "status" => status.to_string()
    )
    .increment(1);
    metrics::histogram!(
        "emberbox_http_request_seconds", "method" => method, "route" => route
    )
    .record(took);
}

/// Everything in Prometheus' text format.
pub(crate) async fn render(control: &Control) -> String {
    if let Ok(counts) = control.store().count_sandboxes().await {
        for state in emberbox_core::SandboxState::ALL {
            if state == emberbox_core::SandboxState::Destroyed {
                continue;
            }
            let count = counts.iter().find(|(s, _)| *s == state);
            let count = count.map_or(0, |(_, count)| *count);
            metrics::gauge!("emberbox_sandboxes", "state" => state.as_str()).set(count);
        }
    }
    // The cast is exact for any number of VMs a machine can hold.
    let vms = u32::try_from(control.compute().running().len()).unwrap_or(u32::MAX);
    metrics::gauge!("emberbox_vms").set(vms);
    pool(&control.compute().pool());
    let Some(handle) = handle() else {
        return String::new();
    };
    handle.run_upkeep();
    handle.render()
}

/// The VMs that are prepared, and what came of it.
fn pool(facts: &PoolFacts) {
    for (image, shape, ready) in &facts.ready {
        // Exact for any number of VMs a machine can hold.
        let ready = u32::try_from(*ready).unwrap_or(u32::MAX);
        metrics::gauge!(
            "emberbox_pool_vms", "image" => image.clone(), "shape" => shape.clone()
        )
        .set(ready);
    }
    let vmms = [
        ("waiting", facts.vmms_waiting),
        ("wanted", facts.vmms_wanted),
    ];
    for (state, count) in vmms {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!("emberbox_standby_vmms", "state" => state).set(count);
    }
    let counts = [("hit", facts.hits), ("miss", facts.misses)];
    for (outcome, count) in counts {
        metrics::counter!("emberbox_pool_leases_total", "outcome" => outcome).absolute(count);
    }
    let refills = [("ok", facts.prepared), ("failed", facts.failed)];
    for (outcome, count) in refills {
        metrics::counter!("emberbox_pool_refills_total", "outcome" => outcome).absolute(count);
    }
    let milliseconds = u64::try_from(facts.prepare_time.as_millis()).unwrap_or(u64::MAX);
    metrics::counter!("emberbox_pool_refill_milliseconds_total").absolute(milliseconds);
}
