//! The server about itself; no key needed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use emberbox_api::error::{CatalogueEntry, catalogue};
use emberbox_api::{Data, Health, Ready};

use crate::control::Control;
use crate::{catalogue as templates, metrics as counters};

/// Does the process live?
#[utoipa::path(get, path = "/health", tag = "system", security(()),
    responses((status = 200, body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Can it take work?
#[utoipa::path(get, path = "/ready", tag = "system", security(()),
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub(super) async fn ready(State(control): State<Arc<Control>>) -> (StatusCode, Json<Ready>) {
    let store = control.store().ping().await.is_ok();
    let image = control.compute().has_image(templates::IMAGE);
    let ready = store && image && !control.closing().is_cancelled();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Ready {
        ready,
        store,
        image,
    };
    (status, Json(body))
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "system", security(()),
    responses((status = 200, content_type = "text/plain")))]
pub(super) async fn metrics(State(control): State<Arc<Control>>) -> impl IntoResponse {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        counters::render(&control).await,
    )
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "system", security(()),
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(super::openapi())
}

/// Every error code with its meaning
#[utoipa::path(get, path = "/errors", tag = "system", security(()),
    responses((status = 200, body = Data<Vec<CatalogueEntry>>)))]
pub(super) async fn errors() -> Json<Data<Vec<CatalogueEntry>>> {
    Json(Data { data: catalogue() })
}
