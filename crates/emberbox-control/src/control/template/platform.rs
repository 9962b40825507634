//! The platform's own templates: which are built, who may have them built, and
//! what their sandboxes boot.
//!
//! What is built of them are templates of the operator's tenant, under ids that
//! no tenant's own template can have for a slug. So their builds are queued,
//! followed, replaced and collected like any other.
//!
//! Invariants: only an operator changes them, and only to what this server
//! brings; one that was never built boots the image of the first.

use emberbox_api::{CreateTemplate, ErrorCode, Template};
use emberbox_core::Scope;
use emberbox_store::{BuildRecord, Caller, NewBuild, NewTemplate, TemplateError, TemplateRecord};
use serde_json::{Map, json};

use super::{Bootable, state};
use crate::Failure;
use crate::catalogue::{self, Aliases};
use crate::control::Control;

impl Control {
    /// What a sandbox of one of them boots now; `None` if it is none of them.
    pub(super) async fn platform_bootable(
        &self,
        name: Option<&str>,
    ) -> Result<Option<Bootable>, Failure> {
        let Some(plain) = Bootable::of_platform(name) else {
            return Ok(None);
        };
        let built = self.built(&plain.template_id).await?;
        let ready = built.and_then(|built| built.ready_build);
        Ok(Some(match ready {
            None => plain,
            Some(ready) => Bootable::of_build(plain.template_id, ready),
        }))
    }

    /// All of them, as they are now.
    pub(crate) async fn platform_templates(
        &self,
        aliases: Aliases,
    ) -> Result<Vec<Template>, Failure> {
        let operator = self.store.operators_tenant().await?;
        let built = self.store.templates(&operator).await?;
        let shown = catalogue::list(aliases).into_iter().map(|template| {
            let own = catalogue::own_id(&template.id);
            let built = built.iter().find(|built| Some(&*built.slug) == own);
            with_build(template, built)
        });
        Ok(shown.collect())
    }

    /// The one with this id or alias, as it is now.
    pub(crate) async fn platform_template(&self, name: &str) -> Result<Option<Template>, Failure> {
        let Some(template) = catalogue::find(name) else {
            return Ok(None);
        };
        let built = self.built(name).await?;
        Ok(Some(with_build(template, built.as_ref())))
    }

    /// Queues a build of one of them, as this server brings it. Its sandboxes
    /// boot what was ready before until it is ready.
    pub(crate) async fn seed_template(
        &self,
        caller: &Caller,
        new: NewTemplate,
    ) -> Result<BuildRecord, Failure> {
        if caller.tenant != self.store.operators_tenant().await? {
            let message = "the platform's templates are built with a key of the operator's tenant";
            return Err(Failure::new(ErrorCode::Forbidden, message));
        }
        let record = match self.built(&new.slug).await? {
            Some(record) => record,
            None => match self.store.insert_template(caller, &new, u32::MAX).await {
                Ok(record) => record,
                // Somebody else was a moment faster.
                Err(TemplateError::SlugTaken) => {
                    let record = self.built(&new.slug).await?;
                    record.ok_or_else(Failure::template_not_found)?
                }
                Err(error) => return Err(error.into()),
            },
        };
        let build = NewBuild {
            template: record.id,
            spec: Some(new.spec),
            metadata: Map::new(),
        };
        self.create_build(caller, build).await
    }

    /// What was built of one of them, by id or alias.
    async fn built(&self, name: &str) -> Result<Option<TemplateRecord>, Failure> {
        // The first is never built; what names none is quick.
        if catalogue::spec(name).is_none() {
            return Ok(None);
        }
        let slug = catalogue::own_id(name).unwrap_or(name);
        let operator = self.store.operators_tenant().await?;
        Ok(self.store.template(&operator, slug).await?)
    }
}

/// What makes one of them a template with an image of its own.
pub(crate) fn seed(name: &str) -> Result<CreateTemplate, Failure> {
    let template = catalogue::find(name).ok_or_else(Failure::template_not_found)?;
    let Some(build_spec) = catalogue::spec(name) else {
        let message = format!("{name} is the base image, which `emberbox setup` makes");
        return Err(Failure::new(ErrorCode::ResourceState, message));
    };
    Ok(CreateTemplate {
        slug: Some(template.alias_of.unwrap_or(template.id)),
        name: Some(template.name),
        description: Some(template.description),
        build_spec,
        ..CreateTemplate::default()
    })
}

/// That a caller may change a template: what is of the platform is an
/// operator's.
pub(crate) fn check_may_change(caller: &Caller, template: &TemplateRecord) -> Result<(), Failure> {
    if !is_of_platform(template) || caller.scopes.allow(Scope::Admin) {
        return Ok(());
    }
    let message = format!("the template {} is the platform's", template.slug);
    let failure = Failure::new(ErrorCode::InsufficientScope, message);
    Err(failure.with_details(json!({ "scope": Scope::Admin.as_str() })))
}

/// Whether it is what was built of one of them.
pub(crate) fn is_of_platform(template: &TemplateRecord) -> bool {
    catalogue::spec(&template.slug).is_some()
}

/// What a template says of itself, and what was built of it.
fn with_build(template: Template, built: Option<&TemplateRecord>) -> Template {
    let build_spec = catalogue::spec(&template.id);
    let Some(built) = built else {
        let state = if build_spec.is_none() {
            "ready"
        } else {
            "draft"
        };
        return Template {
            state: Some(state.to_owned()),
            status: Some(state.to_owned()),
            build_spec,
            ..template
        };
    };
    let ready = built.ready_build.as_ref();
    let latest = built.latest_build.as_ref();
    let state = state(built);
    Template {
        image_id: ready.map_or(template.image_id, |ready| Some(ready.image.clone())),
        preview_port: template
            .preview_port
            .or_else(|| ready.and_then(|ready| ready.spec.preview_port)),
        state: Some(state.to_owned()),
        status: Some(state.to_owned()),
        latest_build_id: latest.map(|(id, _)| id.to_string()),
        ready_build_id: ready.map(|ready| ready.id.to_string()),
        build_spec,
        ..template
    }
}
