//! The OpenAPI document, made from the handlers and their types.

use emberbox_api::{BASE_PATH, ErrorCode, ErrorResponse};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::previews::share;
use super::{
    app, batches, builds, bulk, code, commands, credits, deployments, env, events, exec, exports,
    files, history, keys, logs, measures, named, previews, processes, projects, readiness, run,
    sandboxes, snapshots, system, templates, tenancy, tenant_events, tenants, terminal, tickets,
    usage, workspaces,
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
    modifiers(&Bearer, &Names, &Errors),
    components(schemas(ErrorCode, ErrorResponse)),
    paths(
        sandboxes::create, sandboxes::list, sandboxes::get, sandboxes::by_name,
        sandboxes::destroy, sandboxes::change::update, sandboxes::change::pause,
        sandboxes::change::resume, sandboxes::change::stop, sandboxes::change::extend,
        sandboxes::change::set_tags, snapshots::create, snapshots::create_one, snapshots::list,
        snapshots::get, snapshots::delete, snapshots::restore, snapshots::fork, env::list, env::set, env::delete,
        readiness::get, readiness::stream,
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
        templates::list, templates::get, templates::build_spec, templates::validate,
        templates::create, templates::delete,
        builds::create, builds::list, builds::get, builds::log::logs, builds::log::stream,
        builds::cancel, builds::retry, builds::seed,
        templates::catalogue, tenant_events::stream,
        history::list, history::groups, history::get, history::delete, history::delete_many,
        history::fork, named::list, named::create, named::get, named::delete, named::deploy,
        bulk::pause, bulk::resume, bulk::destroy,
        usage::report, usage::summary, usage::sessions, usage::of_sandbox,
        credits::get, credits::change, run::run, exports::create, exports::download,
        commands::run, commands::list, commands::get, commands::logs, commands::kill,
        batches::create, batches::get, batches::items, batches::cancel, batches::events,
        code::run, code::contexts, code::reset_one, code::reset_all,
        measures::metrics, measures::resources, measures::runtimes,
        keys::list, keys::create, keys::get, keys::update, keys::rotate, keys::revoke,
        keys::token::create, keys::token::list, keys::token::revoke,
        tenancy::whoami, tenancy::preview_domain, tenancy::set_preview_domain,
        workspaces::list, workspaces::create, workspaces::get, workspaces::update,
        workspaces::delete, workspaces::sandboxes,
        projects::list, projects::of_workspace, projects::create, projects::get, projects::update, projects::delete,
        tenants::list, tenants::create, tenants::get, tenants::update, tenants::delete,
        tenants::users, tenants::create_user, tenants::remove_user,
        tenants::keys, tenants::create_key,
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

/// Every operation may answer with an error that is not its own: no key, no
/// room, a broken body. All have the one shape.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let schema = Ref::from_schema_name("ErrorResponse");
        let error = ResponseBuilder::new()
            .description("An error; `GET /errors` lists the codes")
            .content("application/json", Content::new(Some(RefOr::Ref(schema))))
            .build();
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), RefOr::T(error.clone()));
        }
    }
}

/// Operations are named by what they are called with, `get_sandboxes_by_id`:
/// the handlers' own names are unique in their modules only.
struct Names;

impl Modify for Names {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations_by_method(item) {
                operation.operation_id = Some(operation_name(method, path));
            }
        }
    }
}

fn operation_name(method: &str, path: &str) -> String {
    let words = path.split('/').filter(|word| !word.is_empty()).map(|word| {
        let parameter = word
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let word = parameter.map_or_else(|| word.to_owned(), |name| format!("by_{name}"));
        word.replace(['-', '.'], "_")
    });
    let words: Vec<_> = std::iter::once(method.to_owned()).chain(words).collect();
    words.join("_")
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    operations_by_method(item).map(|(_, operation)| operation)
}

fn operations_by_method(
    item: &mut PathItem,
) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
