//! The template catalogue.

use axum::Json;
use emberbox_api::{Data, ErrorCode, ErrorResponse, Template, TemplateList};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, PathText};
use super::json::QueryString;
use crate::Failure;
use crate::catalogue::{self, Aliases};

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
    Auth(_caller): Auth,
    QueryString(query): QueryString<ListQuery>,
) -> Json<TemplateList> {
    let aliases = match query.include_aliases.as_deref() {
        Some("true" | "1") => Aliases::Shown,
        Some(_) | None => Aliases::Hidden,
    };
    Json(TemplateList {
        default_template_id: catalogue::DEFAULT_TEMPLATE.to_owned(),
        data: catalogue::list(aliases),
    })
}

/// Get a template
#[utoipa::path(get, path = "/sandbox-templates/{id}", tag = "templates",
    params(("id" = String, Path, description = "Template id or alias")),
    responses((status = 200, body = Data<Template>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    Auth(_caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Template>>, Failure> {
    let found = catalogue::find(&id);
    let data = found.ok_or_else(|| Failure::new(ErrorCode::NotFound, "template not found"))?;
    Ok(Json(Data { data }))
}
