//! The public HTTP interface.
//!
//! Handlers extract, authorise, parse into a core type, call one operation
//! and map its result. Every answer carries `x-request-id`; every error has
//! the one shape.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, patch, post};
use emberbox_api::{BASE_PATH, ErrorCode};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::control::Control;
use crate::preview::Forwarder;
use crate::{Failure, metrics, preview};

mod access;
mod app;
mod auth;
mod batches;
mod body;
mod builds;
mod bulk;
mod code;
mod commands;
mod credits;
mod deployments;
mod document;
mod env;
mod error;
mod events;
mod exec;
mod exports;
mod files;
mod history;
mod json;
mod keys;
mod logs;
mod measures;
mod named;
mod once;
mod page;
mod part;
mod port;
mod previews;
mod processes;
mod projects;
mod readiness;
pub(crate) mod request;
mod run;
mod sandboxes;
mod snapshots;
mod sse;
mod system;
mod templates;
mod tenancy;
mod tenant_events;
mod tenants;
mod terminal;
mod tickets;
mod unread;
mod usage;
mod workspaces;

use previews::share;

pub use document::openapi;

/// Every route, and previews under their host names.
pub fn router(control: Arc<Control>) -> Router {
    metrics::install();
    let previews = Arc::new(Forwarder::new(Arc::clone(&control)));
    let system = || {
        Router::new()
            .route("/health", get(system::health))
            .route("/ready", get(system::ready))
            .route("/metrics", get(system::metrics))
            .route("/openapi.json", get(system::openapi))
    };
    let api = Router::new()
        .route("/errors", get(system::errors))
        .route("/whoami", get(tenancy::whoami))
        .route(
            "/preview-domain",
            get(tenancy::preview_domain).put(tenancy::set_preview_domain),
        )
        .route(
            "/workspaces",
            get(workspaces::list).post(workspaces::create),
        )
        .route(
            "/workspaces/{id}",
            get(workspaces::get)
                .patch(workspaces::update)
                .delete(workspaces::delete),
        )
        .route("/workspaces/{id}/sandboxes", get(workspaces::sandboxes))
        .route("/workspaces/{id}/projects", get(projects::of_workspace))
        .route("/projects", get(projects::list).post(projects::create))
        .route(
            "/projects/{id}",
            get(projects::get)
                .patch(projects::update)
                .delete(projects::delete),
        )
        .route("/api-keys", get(keys::list).post(keys::create))
        .route(
            "/api-keys/{id}",
            get(keys::get).patch(keys::update).delete(keys::revoke),
        )
        .route("/api-keys/{id}/rotate", post(keys::rotate))
        .route(
            "/tokens/scoped",
            get(keys::token::list).post(keys::token::create),
        )
        .route("/tokens/scoped/{id}", delete(keys::token::revoke))
        .route("/admin/tenants", get(tenants::list).post(tenants::create))
        .route(
            "/admin/tenants/{id}",
            get(tenants::get)
                .patch(tenants::update)
                .delete(tenants::delete),
        )
        .route(
            "/admin/tenants/{id}/users",
            get(tenants::users).post(tenants::create_user),
        )
        .route(
            "/admin/tenants/{id}/users/{user_id}",
            delete(tenants::remove_user),
        )
        .route(
            "/admin/tenants/{id}/api-keys",
            get(tenants::keys).post(tenants::create_key),
        )
        .route("/admin/sandbox-templates/{id}/builds", post(builds::seed))
        .route("/auth/sse-ticket", post(tickets::create))
        // The clients' name of the same.
        .route("/sse/ticket", post(tickets::create_for_clients))
        .route(
            "/sandbox-templates",
            get(templates::list).post(templates::create),
        )
        .route("/sandbox-templates/build-spec", get(templates::build_spec))
        .route("/sandbox-templates/validate", post(templates::validate))
        .route(
            "/sandbox-templates/{id}",
            get(templates::get).delete(templates::delete),
        )
        .route(
            "/sandbox-templates/{id}/builds",
            get(builds::list).post(builds::create),
        )
        .route("/sandbox-template-builds/{id}", get(builds::get))
        .route("/sandbox-template-builds/{id}/logs", get(builds::log::logs))
        .route(
            "/sandbox-template-builds/{id}/logs/stream",
            get(builds::log::stream),
        )
        .route("/sandbox-template-builds/{id}/cancel", post(builds::cancel))
        .route("/sandbox-template-builds/{id}/retry", post(builds::retry))
        .route("/templates", get(templates::catalogue))
        .route("/events/stream", get(tenant_events::stream))
        .route("/snapshots", get(history::list))
        .route("/snapshots/groups", get(history::groups))
        .route("/snapshots/delete", post(history::delete_many))
        .route("/snapshots/{id}", get(history::get).delete(history::delete))
        .route("/snapshots/{id}/fork", post(history::fork))
        .route("/named-snapshots", get(named::list).post(named::create))
        .route(
            "/named-snapshots/{name}",
            get(named::get).delete(named::delete),
        )
        .route("/named-snapshots/{name}/deploy", post(named::deploy))
        .route("/bulk/sandboxes/pause", post(bulk::pause))
        .route("/bulk/sandboxes/resume", post(bulk::resume))
        .route("/bulk/sandboxes/destroy", post(bulk::destroy))
        .route("/sandboxes", get(sandboxes::list).post(sandboxes::create))
        .route("/usage", get(usage::report))
        .route("/usage/summary", get(usage::summary))
        .route("/usage/sessions", get(usage::sessions))
        .route("/credits", get(credits::get))
        .route("/admin/tenants/{id}/credits", post(credits::change))
        .route("/sandboxes/batch", post(batches::create))
        .route("/sandboxes/batches/{id}", get(batches::get))
        .route("/sandboxes/batches/{id}/items", get(batches::items))
        .route("/sandboxes/batches/{id}/cancel", post(batches::cancel))
        .route("/sandboxes/batches/{id}/events", get(batches::events))
        .route("/sandboxes/run", post(run::run))
        .route("/sandboxes/{id}/exports", post(exports::create))
        .route("/sandboxes/{id}/exports/download", get(exports::download))
        .route(
            "/sandboxes/{id}/commands",
            get(commands::list).post(commands::run),
        )
        .route("/sandboxes/{id}/commands/{pid}", get(commands::get))
        .route("/sandboxes/{id}/commands/{pid}/logs", get(commands::logs))
        .route("/sandboxes/{id}/commands/{pid}/kill", post(commands::kill))
        .route("/sandboxes/{id}/code", delete(code::reset_all))
        .route("/sandboxes/{id}/code/run", post(code::run))
        .route("/sandboxes/{id}/code/contexts", get(code::contexts))
        .route(
            "/sandboxes/{id}/code/contexts/{context}",
            delete(code::reset_one),
        )
        .route("/sandboxes/runtimes", get(measures::runtimes))
        .route("/sandboxes/{id}/usage", get(usage::of_sandbox))
        .route("/sandboxes/{id}/metrics", get(measures::metrics))
        .route("/sandboxes/{id}/resources", get(measures::resources))
        .route("/sandboxes/by-name/{*name}", get(sandboxes::by_name))
        .route(
            "/sandboxes/{id}",
            get(sandboxes::get)
                .patch(sandboxes::change::update)
                .delete(sandboxes::destroy),
        )
        .route("/sandboxes/{id}/pause", post(sandboxes::change::pause))
        .route("/sandboxes/{id}/resume", post(sandboxes::change::resume))
        .route("/sandboxes/{id}/stop", post(sandboxes::change::stop))
        .route("/sandboxes/{id}/extend", post(sandboxes::change::extend))
        .route("/sandboxes/{id}/tags", patch(sandboxes::change::set_tags))
        .route(
            "/sandboxes/{id}/snapshots",
            get(snapshots::list).post(snapshots::create),
        )
        .route("/sandboxes/{id}/snapshot", post(snapshots::create_one))
        .route(
            "/sandboxes/{id}/snapshots/{snapshot}",
            get(snapshots::get).delete(snapshots::delete),
        )
        .route(
            "/sandboxes/{id}/restore/{snapshot}",
            post(snapshots::restore),
        )
        .route("/sandboxes/{id}/fork", post(snapshots::fork))
        .route("/sandboxes/{id}/env", get(env::list).put(env::set))
        .route("/sandboxes/{id}/env/{key}", delete(env::delete))
        .route("/sandboxes/{id}/readiness", get(readiness::get))
        .route("/sandboxes/{id}/readiness/stream", get(readiness::stream))
        .route("/sandboxes/{id}/exec", post(exec::run))
        .route(
            "/sandboxes/{id}/previews",
            get(previews::list).post(previews::create),
        )
        .route(
            "/sandboxes/{id}/previews/{preview}",
            get(previews::get).delete(previews::delete),
        )
        .route(
            "/sandboxes/{id}/previews/{preview}/share",
            post(share::share_preview).delete(share::unshare_preview),
        )
        .route(
            "/sandboxes/{id}/shares",
            get(share::list).post(share::create),
        )
        .route("/sandboxes/{id}/shares/{share}", delete(share::revoke))
        .route("/sandboxes/{id}/preview-token", post(share::create_token))
        .route("/sandboxes/{id}/exec/stream", post(exec::stream))
        .route("/sandboxes/{id}/events", get(events::stream))
        .route("/sandboxes/{id}/deploy", post(deployments::deploy))
        .route("/deployments", get(deployments::list))
        .route(
            "/deployments/{id}",
            get(deployments::get).delete(deployments::delete),
        )
        .route("/sandboxes/{id}/template/start", post(app::start))
        .route("/sandboxes/{id}/artifacts", get(app::artifacts))
        .route("/sandboxes/{id}/logs", get(logs::get))
        .route("/sandboxes/{id}/logs/stream", get(logs::stream))
        .route("/sandboxes/{id}/expose", post(previews::expose))
        .route(
            "/sandboxes/{id}/processes",
            get(processes::list).post(processes::start),
        )
        .route(
            "/sandboxes/{id}/processes/{pid}",
            get(processes::get).delete(processes::stop),
        )
        .route(
            "/sandboxes/{id}/processes/{pid}/signal",
            post(processes::signal),
        )
        .route(
            "/sandboxes/{id}/processes/{pid}/stdin",
            post(processes::write),
        )
        .route("/sandboxes/{id}/processes/{pid}/logs", get(processes::logs))
        .route(
            "/sandboxes/{id}/processes/{pid}/stream",
            get(processes::stream),
        )
        .route("/sandboxes/{id}/terminal", post(terminal::open))
        .route("/sandboxes/{id}/terminal/stream", get(terminal::stream))
        .route(
            "/sandboxes/{id}/terminal/{session_id}",
            delete(terminal::close),
        )
        .route(
            "/sandboxes/{id}/files",
            get(files::list).post(files::upload),
        )
        // `stat` is a POST; a GET of that name is a file called so.
        .route(
            "/sandboxes/{id}/files/stat",
            post(files::stat).get(files::download),
        )
        .route(
            "/sandboxes/{id}/files/write-many",
            post(files::write_many).get(files::download),
        )
        .route(
            "/sandboxes/{id}/files/batch",
            post(files::write_batch).get(files::download),
        )
        .route("/sandboxes/{id}/files/tree", get(files::tree))
        .route("/sandboxes/{id}/files/watch", get(files::watch))
        .route("/sandboxes/{id}/files/{*path}", get(files::download));
    // The reference for people, drawn from the document.
    let reference = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    Router::new()
        .merge(system())
        .merge(reference)
        .nest(BASE_PATH, api.merge(system()))
        .fallback(no_route)
        // Clients fall back to other routes on 404, and only on 404.
        .method_not_allowed_fallback(no_route)
        // Bodies are read through `body`, which has limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(unread::settle))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn(request::scope))
        // Before everything else: a guest's paths are not the API's.
        .layer(from_fn_with_state(previews, preview::by_host))
        .with_state(control)
}

async fn no_route() -> Failure {
    Failure::new(ErrorCode::RouteNotFound, "no such route")
}
