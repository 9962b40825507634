//! What a sandbox takes, what it was given, and what sandboxes can run on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{
    CurrentMetrics, Data, ErrorResponse, MaxShape, MetricsSample, ResourceCapabilities, Resources,
    Runtime, RuntimeCapabilities, SandboxMetrics, SandboxResources, Time,
};
use jiff::SignedDuration;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, Target};
use super::json::QueryString;
use super::usage::length;
use crate::control::{Control, Sample};
use crate::{Failure, catalogue};

/// How far metrics reach back unless told otherwise.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The only runtime there is, as creates call it.
const RUNTIME: &str = "standard";

/// How `GET …/metrics` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsQuery {
    /// How far back, for example `15m` or `1h`, which it is when absent.
    window: Option<String>,
}

/// What a sandbox takes of its machine, now and lately
#[utoipa::path(get, path = "/sandboxes/{id}/metrics", tag = "usage",
    params(("id" = String, Path, description = "Sandbox id"), MetricsQuery),
    responses((status = 200, body = Data<SandboxMetrics>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn metrics(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<MetricsQuery>,
) -> Result<Json<Data<SandboxMetrics>>, Failure> {
    let window = match query.window.as_deref() {
        None => WINDOW,
        Some(text) => length(text)
            .ok_or_else(|| Failure::invalid_field("window", "must be a time such as 15m or 1h"))?,
    };
    let record = target.record;
    let mut samples = control.samples(&record, window);
    let before = samples.len();
    samples.extend(control.sample_now(&record).await);
    let mut shown: Vec<_> = (0..samples.len()).map(|at| show(&samples, at)).collect();
    let now = (samples.len() > before).then(|| shown.pop()).flatten();
    let data = SandboxMetrics {
        resource_type: "sandbox".to_owned(),
        window_sec: window.as_secs().unsigned_abs(),
        current: CurrentMetrics {
            cpu_count: record.shape.vcpus,
            memory_mb: record.shape.memory_mib,
            disk_size_mb: record.shape.disk_mib,
            used: now,
        },
        history: shown,
        sandbox_id: record.id,
    };
    Ok(Json(Data { data }))
}

fn show(samples: &[Sample], at: usize) -> MetricsSample {
    let sample = &samples[at];
    let earlier = at.checked_sub(1).map(|before| &samples[before]);
    let cpu_time_ms = sample.resources.cpu_time.as_millis();
    MetricsSample {
        at: Time(sample.at),
        memory_pss_bytes: sample.resources.memory.pss,
        memory_private_bytes: sample.resources.memory.private,
        cpu_time_ms: u64::try_from(cpu_time_ms).unwrap_or(u64::MAX),
        cpu_percent: earlier.and_then(|earlier| sample.cpu_percent_since(earlier)),
        disk_allocated_bytes: sample.resources.disk_bytes,
        network_egress_bytes: sample.network.egress_bytes,
        network_ingress_bytes: sample.network.ingress_bytes,
        network_guest_sent_bytes: sample.network.guest_sent_bytes,
        network_guest_received_bytes: sample.network.guest_received_bytes,
    }
}

/// What a sandbox was given, and what of that can change
#[utoipa::path(get, path = "/sandboxes/{id}/resources", tag = "usage",
    params(("id" = String, Path, description = "Sandbox id")),
    responses((status = 200, body = Data<SandboxResources>), (status = 404, body = ErrorResponse)))]
pub(super) async fn resources(
    State(control): State<Arc<Control>>,
    target: Target,
) -> Json<Data<SandboxResources>> {
    let limits = control.limits(&target.caller);
    let record = target.record;
    let data = SandboxResources {
        id: record.id,
        resources: Resources {
            cpu: record.shape.vcpus,
            memory_mb: record.shape.memory_mib,
            disk_size_mb: record.shape.disk_mib,
        },
        capabilities: ResourceCapabilities {
            live_cpu: false,
            live_memory: false,
            max_cpu: limits.max_vcpus,
            max_memory_mb: limits.max_memory_mib,
            reason: Some("a memory snapshot fixes the shape of its VM".to_owned()),
        },
    };
    Json(Data { data })
}

/// What sandboxes can run on
#[utoipa::path(get, path = "/sandboxes/runtimes", tag = "usage",
    responses((status = 200, body = Data<Vec<Runtime>>), (status = 401, body = ErrorResponse)))]
pub(super) async fn runtimes(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Json<Data<Vec<Runtime>>> {
    let limits = control.limits(&caller);
    let available = control.compute().has_image(catalogue::IMAGE);
    let runtime = Runtime {
        id: RUNTIME.to_owned(),
        runtime_profile: RUNTIME.to_owned(),
        label: "microVM".to_owned(),
        description: "A virtual machine with a kernel, disk and network of its own, restored \
            from a memory snapshot."
            .to_owned(),
        default: true,
        available,
        unavailable_reason: (!available).then(|| "no guest image is installed".to_owned()),
        capabilities: RuntimeCapabilities {
            browser: false,
            network_egress: true,
            persistence: true,
            pause: true,
            gpu: false,
            max_shape: MaxShape {
                cpu_count: limits.max_vcpus,
                memory_mb: limits.max_memory_mib,
                disk_size_mb: limits.max_disk_mib,
            },
        },
    };
    Json(Data {
        data: vec![runtime],
    })
}
