//! Lists in pages, for who asks for them. Clients that do not lose nothing.

use emberbox_api::{FieldError, Page, PageInfo};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::Failure;

/// Entries of a page unless told otherwise, and most of them
/// (`client-contract.md`, section 2.13).
const SIZE: u32 = 20;
const SIZE_MAX: u32 = 100;

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Which page, counted from 1; the whole list without this and `page_size`.
    page: Option<String>,
    /// Entries of a page: 20 when absent, at most 100.
    page_size: Option<String>,
}

impl PageQuery {
    /// What of a list was asked for.
    pub(super) fn of<T>(&self, list: Vec<T>) -> Result<Page<T>, Failure> {
        if self.page.is_none() && self.page_size.is_none() {
            return Ok(Page {
                data: list,
                page: None,
            });
        }
        let mut errors = Vec::new();
        let page = number("page", self.page.as_deref(), (1, u32::MAX), &mut errors);
        let size = self.page_size.as_deref();
        let page_size = number("page_size", size, (SIZE, SIZE_MAX), &mut errors);
        if !errors.is_empty() {
            return Err(Failure::invalid(&errors));
        }
        let total = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // In 64 bits no page that can be asked for is out of range.
        let skipped = u64::from(page - 1) * u64::from(page_size);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let data = list.into_iter().skip(skipped).take(page_size as usize);
        Ok(Page {
            data: data.collect(),
            page: Some(PageInfo {
                page,
                page_size,
                total,
            }),
        })
    }
}

/// A number from 1 to `most`.
fn number(
    field: &str,
    text: Option<&str>,
    (default, most): (u32, u32),
    errors: &mut Vec<FieldError>,
) -> u32 {
    let Some(text) = text else { return default };
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => number,
        Ok(_) | Err(_) => {
            errors.push(FieldError::new(
                field,
                format!("must be between 1 and {most}"),
            ));
            default
        }
    }
}

#[cfg(test)]
mod tests;
