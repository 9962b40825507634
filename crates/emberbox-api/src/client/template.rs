//! Templates and their builds.

use reqwest::Method;
use serde_json::{Value, json};

use super::stream::{EventStream, build_event};
use super::{Client, ClientError, encoded, send};
use crate::{
    BuildEvent, CreateBuild, CreateTemplate, Template, TemplateBuild, TemplateList,
    ValidatedBuildSpec,
};

impl Client {
    /// The templates.
    pub async fn list_templates(&self) -> Result<TemplateList, ClientError> {
        self.get("/sandbox-templates").await
    }

    /// The template of this id or slug.
    pub async fn get_template(&self, name: &str) -> Result<Template, ClientError> {
        self.get_data(&of_template(name, "")).await
    }

    /// Checks a BuildSpec, and makes it complete.
    pub async fn validate_build_spec(
        &self,
        spec: &Value,
    ) -> Result<ValidatedBuildSpec, ClientError> {
        let body = json!({ "build_spec": spec });
        self.post("/sandbox-templates/validate", &body).await
    }

    /// Makes a template.
    pub async fn create_template(&self, request: &CreateTemplate) -> Result<Template, ClientError> {
        self.post_data("/sandbox-templates", request).await
    }

    /// Deletes a template.
    pub async fn delete_template(&self, name: &str) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &of_template(name, ""));
        send(request).await.map(drop)
    }

    /// Queues a build of a template.
    pub async fn build_template(
        &self,
        name: &str,
        request: &CreateBuild,
    ) -> Result<TemplateBuild, ClientError> {
        self.post_data(&of_template(name, "/builds"), request).await
    }

    /// Queues a build of a template of the platform, for operators.
    pub async fn seed_template(&self, name: &str) -> Result<TemplateBuild, ClientError> {
        let path = format!("/admin/sandbox-templates/{}/builds", encoded(name));
        self.post_data(&path, &json!({})).await
    }

    /// The builds of a template, newest first.
    pub async fn list_builds(&self, name: &str) -> Result<Vec<TemplateBuild>, ClientError> {
        self.get_data(&of_template(name, "/builds")).await
    }

    /// How a build stands.
    pub async fn get_build(&self, id: &str) -> Result<TemplateBuild, ClientError> {
        self.get_data(&of_build(id, "")).await
    }

    /// What happened in a build.
    pub async fn build_log(&self, id: &str) -> Result<Vec<BuildEvent>, ClientError> {
        self.get_data(&of_build(id, "/logs")).await
    }

    /// What happens in a build until it is over, after the event of this id.
    pub async fn follow_build(
        &self,
        id: &str,
        after: Option<i64>,
    ) -> Result<EventStream<BuildEvent>, ClientError> {
        let mut request = self.request(Method::GET, &of_build(id, "/logs/stream"));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        EventStream::open(request, build_event).await
    }

    /// Ends a build.
    pub async fn cancel_build(&self, id: &str) -> Result<TemplateBuild, ClientError> {
        self.post_data(&of_build(id, "/cancel"), &json!({})).await
    }

    /// Tries a build again.
    pub async fn retry_build(&self, id: &str) -> Result<TemplateBuild, ClientError> {
        self.post_data(&of_build(id, "/retry"), &json!({})).await
    }
}

fn of_template(name: &str, rest: &str) -> String {
    format!("/sandbox-templates/{}{rest}", encoded(name))
}

fn of_build(id: &str, rest: &str) -> String {
    format!("/sandbox-template-builds/{}{rest}", encoded(id))
}
