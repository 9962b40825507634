//! What a sandbox boots and runs: a template of the platform, or a build of
//! the tenant's own.

use std::collections::BTreeMap;

use emberbox_api::{ErrorCode, ReadinessProbe, Template};
use emberbox_core::{BuildId, BuildSpec, BuildState, Shape, TenantId};
use emberbox_store::{
    Caller, NewTemplate, ReadyBuild, SandboxRecord, TemplateError, TemplateRecord,
};

use super::Control;
use crate::{Failure, catalogue};

pub(crate) mod platform;

/// What a new sandbox boots.
#[derive(Debug, Clone)]
pub(crate) struct Bootable {
    /// As it was asked for.
    pub(crate) template_id: String,
    /// The image.
    pub(crate) image_id: String,
    /// The build that made it, unless it is the base image.
    pub(crate) build: Option<BuildId>,
    /// The shape when nobody says another.
    pub(crate) shape: Shape,
    /// Variables that are there unless the sandbox says otherwise.
    pub(crate) env: BTreeMap<String, String>,
}

impl Bootable {
    /// A template of the platform that was not built.
    pub(crate) fn of_platform(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or(catalogue::DEFAULT_TEMPLATE);
        let image_id = catalogue::find(name)?.image_id?;
        Some(Self {
            template_id: name.to_owned(),
            image_id,
            build: None,
            shape: Shape::DEFAULT,
            env: BTreeMap::new(),
        })
    }

    /// What was built.
    fn of_build(name: String, ready: ReadyBuild) -> Self {
        Self {
            template_id: name,
            image_id: ready.image,
            build: Some(ready.id),
            shape: ready.spec.shape(),
            env: ready.spec.env,
        }
    }
}

impl Control {
    /// What a sandbox of this template boots now.
    pub(crate) async fn bootable(
        &self,
        tenant: &TenantId,
        name: Option<&str>,
    ) -> Result<Bootable, Failure> {
        if let Some(known) = self.platform_bootable(name).await? {
            return Ok(known);
        }
        let name = name.unwrap_or_default();
        let template = self.store.template(tenant, name).await?;
        let template = template.ok_or_else(|| {
            let message = "template_id is not a recognized template";
            Failure::new(ErrorCode::InvalidTemplate, message)
        })?;
        let Some(ready) = template.ready_build else {
            return Err(not_ready(&template));
        };
        Ok(Bootable::of_build(name.to_owned(), ready))
    }

    /// Records a template; its slug is none of the platform's.
    pub(crate) async fn create_template(
        &self,
        caller: &Caller,
        new: NewTemplate,
    ) -> Result<TemplateRecord, Failure> {
        if catalogue::is_taken(&new.slug) {
            return Err(slug_taken());
        }
        let max = self.settings.builds.max_templates;
        Ok(self.store.insert_template(caller, &new, max).await?)
    }

    /// Deletes a template. Its image goes with the last sandbox that came from
    /// it.
    pub(crate) async fn delete_template(
        &self,
        caller: &Caller,
        template: &TemplateRecord,
    ) -> Result<(), Failure> {
        let deleted = self.store.delete_template(&caller.tenant, &template.id);
        if !deleted.await? {
            return Err(Failure::template_not_found());
        }
        self.images_changed();
        Ok(())
    }

    /// The template of a sandbox, as it was when the sandbox was made.
    pub(crate) async fn template_of(&self, sandbox: &SandboxRecord) -> Result<Template, Failure> {
        let gone = || Failure::internal("a sandbox of a template that is gone");
        let image_id = Some(sandbox.image_id.clone());
        // Its app is started anew as if it had no image of its own.
        if let Some(template) = catalogue::find(&sandbox.template_id) {
            return Ok(Template {
                image_id,
                ..template
            });
        }
        let build = sandbox.build.as_ref().ok_or_else(gone)?;
        let build = self.store.build_of_sandbox(build).await?;
        let spec = build.ok_or_else(gone)?.spec;
        Ok(Template {
            id: sandbox.template_id.clone(),
            image_id,
            ..of_spec(&spec)
        })
    }

    /// The port a sandbox's template is shown by.
    pub(crate) async fn template_port(
        &self,
        sandbox: &SandboxRecord,
    ) -> Result<Option<u16>, Failure> {
        let Some(build) = &sandbox.build else {
            return Ok(catalogue::preview_port(&sandbox.template_id));
        };
        let build = self.store.build_of_sandbox(build).await?;
        Ok(build.and_then(|build| build.spec.preview_port))
    }
}

/// What a spec says of the app.
pub(crate) fn of_spec(spec: &BuildSpec) -> Template {
    let command = spec.ready_cmd.clone().map(|command| ReadinessProbe {
        kind: "command".to_owned(),
        command: Some(command),
        ..ReadinessProbe::default()
    });
    let answers = spec.preview_port.map(|port| ReadinessProbe {
        kind: "http".to_owned(),
        url: Some(format!("http://127.0.0.1:{port}")),
        ..ReadinessProbe::default()
    });
    Template {
        category: "custom".to_owned(),
        cpu_count: spec.vcpu,
        memory_mb: spec.memory_mib,
        disk_mb: spec.disk_mib,
        workdir: spec.workdir.clone(),
        preview_port: spec.preview_port,
        start_command: spec.start_cmd.clone(),
        readiness_probe: command.or(answers),
        artifact_paths: spec.artifact_paths.clone(),
        user: Some(spec.user.clone()),
        ..Template::default()
    }
}

/// `ready` if sandboxes can boot it, else what its newest build does.
pub(crate) fn state(template: &TemplateRecord) -> &'static str {
    match (&template.ready_build, &template.latest_build) {
        (Some(_), _) => BuildState::Ready.as_str(),
        (None, Some((_, state))) => state.as_str(),
        (None, None) => "draft",
    }
}

fn not_ready(template: &TemplateRecord) -> Failure {
    let message = match &template.latest_build {
        None => format!("the template {} was never built", template.slug),
        Some((build, state)) => format!(
            "no build of the template {} is ready; the newest, {build}, is {state}",
            template.slug
        ),
    };
    Failure::new(ErrorCode::TemplateNotReady, message)
}

fn slug_taken() -> Failure {
    let message = "the slug is in use by another template";
    Failure::new(ErrorCode::NameTaken, message)
}

impl Failure {
    pub(crate) fn template_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "template not found")
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::SlugTaken => slug_taken(),
            TemplateError::LimitExceeded(count) => Self::new(
                ErrorCode::TemplateLimitExceeded,
                format!("this tenant has {count} templates"),
            ),
            TemplateError::BuildOpen => Self::new(
                ErrorCode::ResourceState,
                "a build of the template is not over; cancel it first",
            ),
            TemplateError::Store(error) => error.into(),
        }
    }
}
