//! Tenants, workspaces and projects.

use reqwest::Method;

use super::{Client, ClientError, encoded, read, send};
use crate::{
    ApiKey, CreateApiKey, CreateProject, CreateTenant, CreateUser, CreateWorkspace, CreatedApiKey,
    Data, Page, Project, Reusable, Tenant, UpdateProject, UpdateTenant, UpdateWorkspace, User,
    Workspace,
};

impl Client {
    /// The tenant's workspaces.
    pub async fn workspaces(&self) -> Result<Vec<Workspace>, ClientError> {
        self.list("/workspaces").await
    }

    /// Makes a workspace, or gives the one with its external id.
    pub async fn create_workspace(
        &self,
        request: &CreateWorkspace,
    ) -> Result<Reusable<Workspace>, ClientError> {
        self.post("/workspaces", request).await
    }

    /// Changes a workspace.
    pub async fn update_workspace(
        &self,
        id: &str,
        change: &UpdateWorkspace,
    ) -> Result<Workspace, ClientError> {
        self.patch_data(&format!("/workspaces/{}", encoded(id)), change)
            .await
    }

    /// Deletes a workspace.
    pub async fn delete_workspace(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/workspaces/{}", encoded(id))).await
    }

    /// The tenant's projects, of one workspace if given.
    pub async fn projects(&self, workspace: Option<&str>) -> Result<Vec<Project>, ClientError> {
        match workspace {
            None => self.list("/projects").await,
            Some(id) => {
                let path = format!("/projects?workspace_id={}", encoded(id));
                self.list(&path).await
            }
        }
    }

    /// Makes a project, or gives the one with its external id.
    pub async fn create_project(
        &self,
        request: &CreateProject,
    ) -> Result<Reusable<Project>, ClientError> {
        self.post("/projects", request).await
    }

    /// Changes a project.
    pub async fn update_project(
        &self,
        id: &str,
        change: &UpdateProject,
    ) -> Result<Project, ClientError> {
        self.patch_data(&format!("/projects/{}", encoded(id)), change)
            .await
    }

    /// Deletes a project.
    pub async fn delete_project(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/projects/{}", encoded(id))).await
    }

    /// Every tenant; for operators, like all that follows.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        self.list("/admin/tenants").await
    }

    /// Makes a tenant.
    pub async fn create_tenant(&self, request: &CreateTenant) -> Result<Tenant, ClientError> {
        self.post_data("/admin/tenants", request).await
    }

    /// Changes a tenant.
    pub async fn update_tenant(
        &self,
        id: &str,
        change: &UpdateTenant,
    ) -> Result<Tenant, ClientError> {
        self.patch_data(&of_tenant(id, ""), change).await
    }

    /// Deletes a tenant.
    pub async fn delete_tenant(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&of_tenant(id, "")).await
    }

    /// A tenant's users.
    pub async fn users(&self, tenant: &str) -> Result<Vec<User>, ClientError> {
        self.list(&of_tenant(tenant, "/users")).await
    }

    /// Makes a user of a tenant.
    pub async fn create_user(
        &self,
        tenant: &str,
        request: &CreateUser,
    ) -> Result<User, ClientError> {
        self.post_data(&of_tenant(tenant, "/users"), request).await
    }

    /// Removes a user of a tenant.
    pub async fn remove_user(&self, tenant: &str, id: &str) -> Result<(), ClientError> {
        let rest = format!("/users/{}", encoded(id));
        self.delete(&of_tenant(tenant, &rest)).await
    }

    /// A tenant's keys.
    pub async fn keys_of(&self, tenant: &str) -> Result<Vec<ApiKey>, ClientError> {
        self.list(&of_tenant(tenant, "/api-keys")).await
    }

    /// Makes a key of a tenant; its secret is in the answer and nowhere else.
    pub async fn create_key_of(
        &self,
        tenant: &str,
        request: &CreateApiKey,
    ) -> Result<CreatedApiKey, ClientError> {
        self.post_data(&of_tenant(tenant, "/api-keys"), request)
            .await
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Vec<T>, ClientError> {
        let page: Page<T> = self.get(path).await?;
        Ok(page.data)
    }

    pub(super) async fn patch_data<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        change: &impl serde::Serialize,
    ) -> Result<T, ClientError> {
        let request = self.request(Method::PATCH, path).json(change);
        let Data { data } = read(request).await?;
        Ok(data)
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        send(self.request(Method::DELETE, path)).await.map(drop)
    }
}

fn of_tenant(id: &str, rest: &str) -> String {
    format!("/admin/tenants/{}{rest}", encoded(id))
}
