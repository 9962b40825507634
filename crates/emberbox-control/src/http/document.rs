//! The OpenAPI document, made from the handlers and their types.

use emberbox_api::{BASE_PATH, ErrorCode};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::previews::share;
use super::{
    app, batches, code, commands, credits, deployments, events, exec, exports, files, keys, logs,
    measures, previews, processes, readiness, run, sandboxes, system, templates, tenancy, terminal,
    tickets, usage,
};

/// The OpenAPI 3.1 document of every public route.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Emberbox",
        description = "Sandboxes in microVMs that are restored from a snapshot."
    ),
    servers((url = "/api/v1")),
    security(("bearer" = [])),
    modifiers(&Bearer),
    components(schemas(ErrorCode)),
    paths(
        sandboxes::create, sandboxes::list, sandboxes::get, sandboxes::by_name,
        sandboxes::destroy, readiness::get, readiness::stream,
        exec::run, exec::stream,
        processes::start, processes::list, processes::get, processes::stop,
        processes::signal, processes::write, processes::logs, processes::stream,
        terminal::open, terminal::stream, terminal::close,
        events::stream, tickets::create, tickets::create_for_clients,
        deployments::deploy, deployments::list, deployments::get, deployments::delete,
        app::start, app::artifacts, logs::get, logs::stream,
        previews::expose, previews::create, previews::list, previews::get, previews::delete,
        share::share_preview, share::unshare_preview,
        share::create, share::list, share::revoke, share::create_token,
        files::upload, files::download, files::list, files::stat, files::write_many,
        files::write_batch, files::tree, files::watch,
        templates::list, templates::get,
        usage::report, usage::summary, usage::sessions, usage::of_sandbox,
        credits::get, credits::change, run::run, exports::create, exports::download,
        commands::run, commands::list, commands::get, commands::logs, commands::kill,
        batches::create, batches::get, batches::items, batches::cancel, batches::events,
        code::run, code::contexts, code::reset_one, code::reset_all,
        measures::metrics, measures::resources, measures::runtimes,
        keys::list,
        keys::create, keys::revoke, tenancy::whoami, tenancy::preview_domain,
        tenancy::set_preview_domain, tenancy::workspaces, tenancy::projects,
        system::health, system::ready, system::metrics, system::openapi, system::errors,
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
        debug_assert!(
            document
                .servers
                .iter()
                .flatten()
                .any(|server| server.url == BASE_PATH),
            "the attribute above repeats BASE_PATH"
        );
    }
}
