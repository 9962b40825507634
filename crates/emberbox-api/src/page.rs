//! Lists that can be read in pages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A list, or a page of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Everything, or what is on the page that was asked for.
    pub data: Vec<T>,
    /// Which page, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<PageInfo>,
}

/// Where in a list a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PageInfo {
    /// Counted from 1.
    pub page: u32,
    /// Most entries of a page.
    pub page_size: u32,
    /// Entries of the whole list.
    pub total: u32,
}
