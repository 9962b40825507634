//! Templates: the platform's, and the tenant's own beside them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::{
    BuildSpecError, CatalogueTemplate, CreateTemplate, Data, ErrorResponse, Template,
    TemplateCatalogue, TemplateList, TemplateSize, Time, ValidateBuildSpec, ValidatedBuildSpec,
};
use emberbox_core::{BuildLimits, BuildSpec, SizeTier, SpecError, TenantId};
use emberbox_store::{Caller, TemplateRecord};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::auth::{Auth, PathText};
use super::json::{JsonBody, QueryString};
use crate::Failure;
use crate::catalogue::{self, Aliases};
use crate::control::template::platform;
use crate::control::{Control, template};

pub(super) mod parse;
mod schema;

/// How `GET /sandbox-templates` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `true` shows the compatibility aliases too.
    include_aliases: Option<String>,
}

/// List templates
#[utoipa::path(get, path = "/sandbox-templates", tag = "templates", params(ListQuery),
    responses((status = 200, body = TemplateList)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<ListQuery>,
) -> Result<Json<TemplateList>, Failure> {
    let aliases = match query.include_aliases.as_deref() {
        Some("true" | "1") => Aliases::Shown,
        Some(_) | None => Aliases::Hidden,
    };
    let mut data = control.platform_templates(aliases).await?;
    let own = control.store().templates(&caller.tenant).await?;
    let own = own.into_iter().filter(|own| !platform::is_of_platform(own));
    data.extend(own.map(show));
    Ok(Json(TemplateList {
        default_template_id: catalogue::DEFAULT_TEMPLATE.to_owned(),
        data,
    }))
}

/// List templates with the sizes they come in
#[utoipa::path(get, path = "/templates", tag = "templates",
    responses((status = 200, body = TemplateCatalogue)))]
pub(super) async fn catalogue(
    State(control): State<Arc<Control>>,
    Auth(_caller): Auth,
) -> Result<Json<TemplateCatalogue>, Failure> {
    let limits = &control.settings().limits;
    let sizes: Vec<_> = ["xs", "small", "medium", "large", "xl"]
        .into_iter()
        .filter_map(|name| Some((name, SizeTier::from_name(name)?.shape())))
        .filter(|(_, shape)| shape.check(limits).is_ok())
        .map(|(name, shape)| TemplateSize {
            size: name.to_owned(),
            cpu_count: shape.vcpus,
            memory_mb: shape.memory_mib,
            disk_size_mb: shape.disk_mib,
            ready: true,
        })
        .collect();
    let templates = control.platform_templates(Aliases::Hidden).await?;
    let templates = templates.into_iter().map(|template| CatalogueTemplate {
        product: "sandbox".to_owned(),
        template,
        sizes: sizes.clone(),
    });
    Ok(Json(TemplateCatalogue {
        templates: templates.collect(),
    }))
}

/// Get a template
#[utoipa::path(get, path = "/sandbox-templates/{id}", tag = "templates",
    params(("id" = String, Path, description = "Template id, slug or alias")),
    responses((status = 200, body = Data<Template>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Template>>, Failure> {
    if let Some(data) = control.platform_template(&id).await? {
        return Ok(Json(Data { data }));
    }
    let data = show(own(&control, &caller.tenant, &id).await?);
    Ok(Json(Data { data }))
}

/// The schema of a BuildSpec
#[utoipa::path(get, path = "/sandbox-templates/build-spec", tag = "templates",
    responses((status = 200, body = Object, description = "A JSON Schema, with `version` and `fields`")))]
pub(super) async fn build_spec(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
) -> Json<Value> {
    Json(schema::build_spec(&limits(&control, &caller)))
}

/// Check a BuildSpec, and see it complete
#[utoipa::path(post, path = "/sandbox-templates/validate", tag = "templates",
    request_body = ValidateBuildSpec, responses((status = 200, body = ValidatedBuildSpec)))]
pub(super) async fn validate(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<ValidateBuildSpec>,
) -> Json<ValidatedBuildSpec> {
    Json(
        match BuildSpec::parse(&body.build_spec, &limits(&control, &caller)) {
            Ok(spec) => ValidatedBuildSpec {
                valid: true,
                build_spec: Some(show_spec(&spec)),
                errors: None,
            },
            Err(errors) => ValidatedBuildSpec {
                valid: false,
                build_spec: None,
                errors: Some(errors.into_iter().map(show_error).collect()),
            },
        },
    )
}

/// Create a template
#[utoipa::path(post, path = "/sandbox-templates", tag = "templates", request_body = CreateTemplate,
    responses((status = 201, body = Data<Template>), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateTemplate>,
) -> Result<(StatusCode, Json<Data<Template>>), Failure> {
    let new = parse::template(body, &limits(&control, &caller))?;
    let data = show(control.create_template(&caller, new).await?);
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// Delete a template; sandboxes that came from it go on
#[utoipa::path(delete, path = "/sandbox-templates/{id}", tag = "templates",
    params(("id" = String, Path, description = "Template id or slug")),
    responses((status = 204, description = "It is gone"), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn delete(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<StatusCode, Failure> {
    let template = own_to_change(&control, &caller, &id).await?;
    control.delete_template(&caller, &template).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tenant's own template of this id or slug.
pub(super) async fn own(
    control: &Control,
    tenant: &TenantId,
    name: &str,
) -> Result<TemplateRecord, Failure> {
    let found = control.store().template(tenant, name).await?;
    found.ok_or_else(Failure::template_not_found)
}

/// The same, for who changes it or its builds.
pub(super) async fn own_to_change(
    control: &Control,
    caller: &Caller,
    name: &str,
) -> Result<TemplateRecord, Failure> {
    let template = own(control, &caller.tenant, name).await?;
    platform::check_may_change(caller, &template)?;
    Ok(template)
}

/// What a spec of this tenant may ask for.
pub(super) fn limits(control: &Control, caller: &Caller) -> BuildLimits {
    BuildLimits::from(&control.limits(caller))
}

/// As it goes over the wire.
pub(super) fn show_spec(spec: &BuildSpec) -> Value {
    serde_json::to_value(spec).expect("a spec is a map with text as keys")
}

pub(super) fn show_error(error: SpecError) -> BuildSpecError {
    BuildSpecError {
        code: error.code.to_string(),
        field: error.field,
        message: error.message,
    }
}

fn show(record: TemplateRecord) -> Template {
    let state = template::state(&record);
    let spec = record.ready_build.as_ref().map(|ready| &ready.spec);
    Template {
        id: record.id.to_string(),
        name: record.name,
        description: record.description,
        slug: Some(record.slug),
        state: Some(state.to_owned()),
        status: Some(state.to_owned()),
        latest_build_id: record.latest_build.map(|(id, _)| id.to_string()),
        ready_build_id: record
            .ready_build
            .as_ref()
            .map(|ready| ready.id.to_string()),
        image_id: record.ready_build.as_ref().map(|ready| ready.image.clone()),
        build_spec: Some(show_spec(&record.spec)),
        env: Some(spec.unwrap_or(&record.spec).env.clone()),
        metadata: Some(record.metadata),
        created_at: Some(Time(record.created_at)),
        inserted_at: Some(Time(record.created_at)),
        updated_at: Some(Time(record.updated_at)),
        ..template::of_spec(spec.unwrap_or(&record.spec))
    }
}
