//! What a template or a build is asked for, checked field by field.

use emberbox_api::{BuildSpecError, CreateBuild, CreateTemplate, ErrorCode};
use emberbox_core::{BuildLimits, BuildSpec, SpecErrorCode, TemplateId};
use emberbox_store::{NewBuild, NewTemplate, label};
use serde_json::{Map, Value, json};

use super::show_error;
use crate::Failure;

/// Longest name, in bytes: what a list can show.
const NAME_MAX: usize = 255;

/// Longest slug: a DNS label, as other slugs here.
const SLUG_MAX: usize = 63;

/// Longest description, in bytes: a few paragraphs, part of every list.
const DESCRIPTION_MAX: usize = 4096;

/// Largest metadata as JSON: it is part of every list.
const METADATA_MAX: usize = 64 * 1024;

/// A template to make.
pub(in crate::http) fn template(
    body: CreateTemplate,
    limits: &BuildLimits,
) -> Result<NewTemplate, Failure> {
    let mut errors = Errors::default();
    let name = body.name.or_else(|| body.slug.clone()).unwrap_or_default();
    if name.trim().is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
        let message = format!("must be 1 to {NAME_MAX} bytes without control characters");
        errors.add("name", message);
    }
    let slug = match body.slug {
        Some(slug) => {
            if !is_slug(&slug) {
                let message =
                    format!("must be 1 to {SLUG_MAX} of a-z, 0-9 and -, beginning with a letter");
                errors.add("slug", message);
            }
            slug
        }
        None => {
            let slug = label(&name);
            if slug.is_empty() && errors.0.is_empty() {
                errors.add("slug", "is required: none can be made from the name");
            }
            slug
        }
    };
    let description = body.description.unwrap_or_default();
    if description.len() > DESCRIPTION_MAX || description.contains('\0') {
        let message = format!("must be at most {DESCRIPTION_MAX} bytes without NUL");
        errors.add("description", message);
    }
    let metadata = errors.metadata(body.metadata);
    let spec = errors.spec(&body.build_spec, limits);
    let new = spec.map(|spec| NewTemplate {
        slug,
        name,
        description,
        metadata,
        spec,
    });
    errors.done(new)
}

/// A build to make.
pub(in crate::http) fn build(
    template: TemplateId,
    body: CreateBuild,
    limits: &BuildLimits,
) -> Result<NewBuild, Failure> {
    let mut errors = Errors::default();
    let metadata = errors.metadata(body.metadata);
    let spec = body.build_spec.map(|spec| errors.spec(&spec, limits));
    let new = NewBuild {
        template,
        spec: spec.flatten(),
        metadata,
    };
    errors.done(Some(new))
}

fn is_slug(slug: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    slug.len() <= SLUG_MAX
        && slug.starts_with(|c: char| c.is_ascii_lowercase())
        && !slug.ends_with('-')
        && slug.bytes().all(legal)
}

/// Collects what is wrong with each field.
#[derive(Default)]
struct Errors(Vec<BuildSpecError>);

impl Errors {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(BuildSpecError {
            code: ErrorCode::ValidationError.as_str().to_owned(),
            field: field.to_owned(),
            message: message.into(),
        });
    }

    fn metadata(&mut self, metadata: Option<Map<String, Value>>) -> Map<String, Value> {
        let metadata = metadata.unwrap_or_default();
        let length = serde_json::to_string(&metadata).map_or(usize::MAX, |json| json.len());
        if length > METADATA_MAX {
            let message = format!("must be at most {METADATA_MAX} bytes of JSON");
            self.add("metadata", message);
        }
        metadata
    }

    fn spec(&mut self, spec: &Value, limits: &BuildLimits) -> Option<BuildSpec> {
        if spec.is_null() {
            self.0.push(BuildSpecError {
                code: SpecErrorCode::Required.as_str().to_owned(),
                field: "build_spec".to_owned(),
                message: "is required".to_owned(),
            });
            return None;
        }
        match BuildSpec::parse(spec, limits) {
            Ok(spec) => Some(spec),
            Err(errors) => {
                self.0.extend(errors.into_iter().map(show_error));
                None
            }
        }
    }

    /// What was made, unless something is wrong.
    fn done<T>(self, made: Option<T>) -> Result<T, Failure> {
        match made {
            Some(made) if self.0.is_empty() => Ok(made),
            Some(_) | None => {
                let text: Vec<_> = (self.0.iter())
                    .map(|error| format!("{} {}", error.field, error.message))
                    .collect();
                let failure = Failure::new(ErrorCode::ValidationError, text.join("; "));
                Err(failure.with_details(json!(self.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
