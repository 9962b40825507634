//! What a create, a change or a fork asks for, checked field by field.

use std::time::Duration;

use emberbox_api::{CreateSandbox, ExtendSandbox, FieldError, ForkSandbox, UpdateSandbox};
use emberbox_core::{Limits, Shape, SizeTier};
use emberbox_store::{Edit, ExternalIds, NewSandbox, PlaceRequest, SandboxRecord};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::control::template::Bootable;
use crate::http::exec::check_env;
use crate::{Failure, Settings};

/// Longest `?wait=`: what one request may reasonably be held open for.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What `?wait=true` stands for: under the Python client's 60 s.
const WAIT_TRUE: Duration = Duration::from_secs(50);

/// Longest name and external id, in bytes: what other systems' identifiers and
/// index entries take.
const TEXT_MAX: usize = 255;

/// Longest slug: a DNS label of 63 with room for `65535-` in front.
const SLUG_MAX: usize = 57;

/// Longest workspace or project slug: a DNS label.
pub(in crate::http) const PLACE_SLUG_MAX: usize = 63;

/// Most tags of one sandbox, and the longest: they are listed and searched
/// row by row.
const TAGS_MAX: usize = 50;
const TAG_MAX: usize = 128;

/// Largest metadata as JSON: it is part of every list.
const METADATA_MAX: usize = 64 * 1024;

/// How long to wait for a new sandbox.
pub(in crate::http) fn wait(text: Option<&str>, settings: &Settings) -> Result<Duration, Failure> {
    match text {
        None | Some("") => Ok(Duration::from_millis(settings.create_grace_ms)),
        Some("true") => Ok(WAIT_TRUE),
        Some("false") => Ok(Duration::ZERO),
        Some(text) => match text.parse::<f64>() {
            Ok(seconds) if seconds >= 0.0 && seconds.is_finite() => {
                Ok(Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
            }
            Ok(_) | Err(_) => Err(Failure::invalid_field(
                "wait",
                "must be true, false or a number of seconds",
            )),
        },
    }
}

/// Checks a whole request and names every field that is wrong.
pub(in crate::http) fn create(
    body: CreateSandbox,
    bootable: Bootable,
    limits: &Limits,
) -> Result<NewSandbox, Failure> {
    let mut fields = Fields::default();
    let shape = fields.shape(&body, bootable.shape, limits);
    let timeout_sec = fields.number("timeout_sec", body.timeout_sec, (1, limits.max_timeout_sec));
    let idle_timeout_sec = fields.number(
        "idle_timeout_sec",
        body.idle_timeout_sec,
        (0, limits.max_timeout_sec),
    );
    let mut env = bootable.env;
    env.extend(body.env.unwrap_or_default());
    fields.errors.extend(check_env(&env));
    let metadata = fields.metadata(body.metadata.unwrap_or_default());
    let tags = fields.tags(body.tags.unwrap_or_default());
    let new = NewSandbox {
        place: PlaceRequest {
            workspace_id: fields.uuid("workspace_id", body.workspace_id),
            workspace_slug: fields.slug("workspace_slug", body.workspace_slug, PLACE_SLUG_MAX),
            workspace_name: fields.text("workspace_name", body.workspace_name),
            project_id: fields.uuid("project_id", body.project_id),
            project_slug: fields.slug("project_slug", body.project_slug, PLACE_SLUG_MAX),
            project_name: fields.text("project_name", body.project_name),
        },
        external: ExternalIds {
            workspace: fields.text("external_workspace_id", body.external_workspace_id),
            user: fields.text("external_user_id", body.external_user_id),
            project: fields.text("external_project_id", body.external_project_id),
        },
        name: fields.text("name", body.name),
        slug: fields.slug("slug", body.slug, SLUG_MAX),
        tags,
        metadata,
        env,
        template_id: bootable.template_id,
        image_id: bootable.image_id,
        build: bootable.build,
        size: body.size,
        shape,
        timeout_sec: timeout_sec.unwrap_or(limits.default_timeout_sec),
        idle_timeout_sec,
        always_on: body.always_on.unwrap_or(false),
        persistent: body.persistent.unwrap_or(false),
        auto_start: body.auto_start.unwrap_or(false),
        origin: None,
        vm: None,
        batch_item: None,
    };
    fields.done(new)
}

/// Checks a change and names every field that is wrong.
pub(super) fn update(body: UpdateSandbox, limits: &Limits) -> Result<Edit, Failure> {
    let mut fields = Fields::default();
    let life = (1, limits.max_timeout_sec);
    let idle = (0, limits.max_timeout_sec);
    let edit = Edit {
        name: fields.text("name", body.name),
        slug: fields.slug("slug", body.slug, SLUG_MAX),
        tags: body.tags.map(|tags| fields.tags(tags)),
        metadata: body.metadata.map(|metadata| fields.metadata(metadata)),
        timeout_sec: fields.number("timeout_sec", body.timeout_sec, life),
        idle_timeout_sec: fields.number("idle_timeout_sec", body.idle_timeout_sec, idle),
        always_on: body.always_on,
        persistent: body.persistent,
        env: None,
    };
    fields.done(edit)
}

/// How many seconds from now a sandbox ends.
pub(super) fn extension(
    body: ExtendSandbox,
    record: &SandboxRecord,
    limits: &Limits,
) -> Result<u32, Failure> {
    let mut fields = Fields::default();
    let range = (1, limits.max_timeout_sec);
    let seconds = fields.number("timeout_sec", body.timeout_sec, range);
    fields.done(seconds.unwrap_or(record.timeout_sec))
}

/// What a fork is: its source but for what is asked for.
pub(in crate::http) fn fork(
    body: ForkSandbox,
    source: &SandboxRecord,
    limits: &Limits,
) -> Result<NewSandbox, Failure> {
    let mut fields = Fields::default();
    let mut env = source.env.clone();
    env.extend(body.env.unwrap_or_default());
    fields.errors.extend(check_env(&env));
    let range = (1, limits.max_timeout_sec);
    let timeout_sec = fields.number("timeout_sec", body.timeout_sec, range);
    let user = fields.text("external_user_id", body.external_user_id);
    let new = NewSandbox {
        place: PlaceRequest {
            workspace_id: Some(source.workspace_id),
            project_id: Some(source.project_id),
            ..PlaceRequest::default()
        },
        external: ExternalIds {
            user: user.or_else(|| source.external.user.clone()),
            ..source.external.clone()
        },
        name: fields.text("name", body.name),
        slug: None,
        tags: source.tags.clone(),
        metadata: match body.metadata {
            Some(metadata) => fields.metadata(metadata),
            None => source.metadata.clone(),
        },
        env,
        template_id: source.template_id.clone(),
        image_id: source.image_id.clone(),
        build: source.build.clone(),
        size: source.size.clone(),
        shape: source.shape,
        timeout_sec: timeout_sec.unwrap_or(source.timeout_sec),
        idle_timeout_sec: source.idle_timeout_sec,
        always_on: source.always_on,
        persistent: source.persistent,
        // What ran goes on.
        auto_start: false,
        origin: None,
        vm: None,
        batch_item: None,
    };
    fields.done(new)
}

/// Collects what is wrong with each field.
#[derive(Default)]
pub(in crate::http) struct Fields {
    pub(in crate::http) errors: Vec<FieldError>,
}

impl Fields {
    /// `value`, unless something is wrong.
    pub(in crate::http) fn done<T>(self, value: T) -> Result<T, Failure> {
        if self.errors.is_empty() {
            Ok(value)
        } else {
            Err(Failure::invalid(&self.errors))
        }
    }

    fn metadata(&mut self, metadata: Map<String, Value>) -> Map<String, Value> {
        let length = serde_json::to_string(&metadata).map_or(usize::MAX, |json| json.len());
        self.require(
            length <= METADATA_MAX,
            "metadata",
            format!("must be at most {METADATA_MAX} bytes of JSON"),
        );
        metadata
    }

    pub(in crate::http) fn require(
        &mut self,
        holds: bool,
        field: &str,
        message: impl Into<String>,
    ) {
        if !holds {
            self.errors.push(FieldError::new(field, message));
        }
    }

    fn shape(&mut self, body: &CreateSandbox, default: Shape, limits: &Limits) -> Shape {
        let tier = body.size.as_deref().map(|name| {
            let tier = SizeTier::from_name(name);
            self.require(
                tier.is_some(),
                "size",
                "must be one of xs, small, medium, large, xl",
            );
            tier.map_or(Shape::DEFAULT, SizeTier::shape)
        });
        let base = tier.unwrap_or(default);
        let (disk_field, disk) = match (body.disk_mb, body.disk_size_mb) {
            (Some(a), Some(b)) if a != b => {
                self.require(false, "disk_size_mb", "contradicts disk_mb");
                ("disk_mb", Some(a))
            }
            (Some(disk), _) => ("disk_mb", Some(disk)),
            (None, disk) => ("disk_size_mb", disk),
        };
        let asked = [
            ("cpu_count", body.cpu_count, base.vcpus),
            ("memory_mb", body.memory_mb, base.memory_mib),
            (disk_field, disk, base.disk_mib),
        ]
        .map(|(field, asked, base)| {
            if let Some(asked) = asked
                && tier.is_some()
                && asked != i64::from(base)
            {
                self.require(false, field, "contradicts size");
            }
            // Saturated numbers are out of every range, so `check` names them.
            let asked = asked.unwrap_or(base.into());
            u32::try_from(asked).unwrap_or(if asked < 0 { 0 } else { u32::MAX })
        });
        let [vcpus, memory_mib, disk_mib] = asked;
        let shape = Shape {
            vcpus,
            memory_mib,
            disk_mib,
        };
        if let Err(out_of_range) = shape.check(limits) {
            self.errors.extend(out_of_range.into_iter().map(|error| {
                let field = match error.field {
                    "disk_mb" => disk_field,
                    field => field,
                };
                FieldError::new(
                    field,
                    format!("must be between {} and {}", error.min, error.max),
                )
            }));
        }
        shape
    }

    fn number(&mut self, field: &str, value: Option<i64>, range: (u32, u32)) -> Option<u32> {
        let (min, max) = range;
        let value = value?;
        let legal = u32::try_from(value)
            .ok()
            .filter(|value| (min..=max).contains(value));
        self.require(
            legal.is_some(),
            field,
            format!("must be between {min} and {max}"),
        );
        legal
    }

    pub(in crate::http) fn text(&mut self, field: &str, value: Option<String>) -> Option<String> {
        let value = value?;
        let legal = !value.trim().is_empty()
            && value.len() <= TEXT_MAX
            && !value.chars().any(char::is_control);
        self.require(
            legal,
            field,
            format!("must be 1 to {TEXT_MAX} bytes without control characters"),
        );
        legal.then_some(value)
    }

    pub(in crate::http) fn slug(
        &mut self,
        field: &str,
        value: Option<String>,
        max: usize,
    ) -> Option<String> {
        let value = value?;
        let legal = value.len() <= max
            && value.starts_with(|c: char| c.is_ascii_lowercase())
            && value.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && value
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        self.require(
            legal,
            field,
            format!("must be 1 to {max} of a-z, 0-9 and -, beginning with a letter"),
        );
        legal.then_some(value)
    }

    pub(in crate::http) fn uuid(&mut self, field: &str, value: Option<String>) -> Option<Uuid> {
        let parsed = value?.parse().ok();
        self.require(parsed.is_some(), field, "must be a UUID");
        parsed
    }

    fn tags(&mut self, tags: Vec<String>) -> Vec<String> {
        self.require(
            tags.len() <= TAGS_MAX,
            "tags",
            format!("must be at most {TAGS_MAX}"),
        );
        for (index, tag) in tags.iter().enumerate().take(TAGS_MAX) {
            // A comma separates tags in the list's filter.
            let legal = !tag.trim().is_empty()
                && tag.len() <= TAG_MAX
                && !tag.contains(|c: char| c == ',' || c.is_control());
            self.require(
                legal,
                &format!("tags[{index}]"),
                format!("must be 1 to {TAG_MAX} bytes without commas"),
            );
        }
        tags
    }
}

#[cfg(test)]
mod tests;
