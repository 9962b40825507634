//! Parts of lists.

use serde::Deserialize;
use utoipa::IntoParams;

use super::usage::limit;
use crate::Failure;

/// Which part is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PartQuery {
    /// Most entries.
    pub(super) limit: Option<String>,
    /// Entries left out at the beginning.
    pub(super) offset: Option<String>,
}

/// Limit and offset.
pub(super) fn parse(query: &PartQuery, default: u32, most: u32) -> Result<(u32, u32), Failure> {
    let limit = limit(query.limit.as_deref(), default, most)?;
    let Some(text) = query.offset.as_deref() else {
        return Ok((limit, 0));
    };
    let offset = text.parse().map_err(|_| {
        Failure::invalid_field("offset", format!("must be between 0 and {}", u32::MAX))
    })?;
    Ok((limit, offset))
}
