//! The query of a list as a filter.

use emberbox_api::FieldError;
use emberbox_store::{Bounds, ExternalIds, SandboxFilter};

use super::ListQuery;
use crate::Failure;
use crate::http::part::{self, PartQuery};

/// Checks every parameter and names each wrong one.
pub(in crate::http) fn parse(query: ListQuery) -> Result<SandboxFilter, Failure> {
    /// Most of one part: as many as a list without parts has.
    const LIMIT_MAX: u32 = 10_000;
    let page = PartQuery {
        limit: query.limit,
        offset: query.offset,
    };
    let page = match (&page.limit, &page.offset) {
        (None, None) => None,
        (Some(_), _) | (None, Some(_)) => Some(part::parse(&page, LIMIT_MAX, LIMIT_MAX)?),
    };
    let mut errors = Vec::new();
    let mut uuid = |field, text: Option<String>| {
        let text = text.filter(|text| !text.is_empty())?;
        text.parse()
            .inspect_err(|_| errors.push(FieldError::new(field, "must be a UUID")))
            .ok()
    };
    let workspace_id = uuid("workspace_id", query.workspace_id);
    let project_id = uuid("project_id", query.project_id);
    let state = query.state.filter(|text| !text.is_empty());
    let state = state.and_then(|text| {
        text.parse()
            .map_err(|error: emberbox_core::lifecycle::UnknownState| {
                errors.push(FieldError::new("state", error.to_string()));
            })
            .ok()
    });
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    let tags = query.tags.unwrap_or_default();
    Ok(SandboxFilter {
        workspace_id,
        project_id,
        external: ExternalIds {
            workspace: query.external_workspace_id,
            user: query.external_user_id,
            project: query.external_project_id,
        },
        state,
        tags: tags
            .split(',')
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect(),
        bounds: Bounds::default(),
        page,
    })
}
