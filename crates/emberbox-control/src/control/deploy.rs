//! Deployments: names on the outside for apps in sandboxes.
//!
//! The store has every deployment; the routes here are made from it, at start,
//! after every change and by the janitor, so that nothing a crash or another
//! server left behind stays wrong for long. A deployment's state follows from
//! its sandbox's and is stored nowhere.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use emberbox_api::ErrorCode;
use emberbox_core::{DeploymentId, SandboxId, TenantId};
use emberbox_store::{DeployError, DeploymentRecord, NewDeployment, SandboxRecord};

use super::Control;
use crate::Failure;

/// Where a host name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// The runtime behind it.
    pub(crate) sandbox: SandboxId,
    /// Where the app listens.
    pub(crate) port: u16,
}

/// The routes of all deployments by host name, in lower case.
#[derive(Default)]
pub(super) struct Routes(RwLock<Arc<HashMap<String, Route>>>);

impl Routes {
    fn find(&self, host: &str) -> Option<Route> {
        self.read().get(host).cloned()
    }

    fn read(&self) -> Arc<HashMap<String, Route>> {
        Arc::clone(&self.0.read().expect("no panic while the routes are held"))
    }

    fn replace(&self, routes: HashMap<String, Route>) {
        *self.0.write().expect("no panic while the routes are held") = Arc::new(routes);
    }
}

impl Control {
    /// Where a host name leads, if it is a deployment's.
    pub(crate) fn route(&self, host: &str) -> Option<Route> {
        self.routes.find(host)
    }

    /// Makes the routes anew from the store.
    pub(super) async fn repair_routes(&self) -> Result<(), Failure> {
        let mut routes = HashMap::new();
        for deployment in self.store.all_deployments().await? {
            let route = Route {
                tenant: deployment.tenant.clone(),
                sandbox: deployment.sandbox.clone(),
                port: deployment.port,
            };
            routes.insert(self.deployment_host(&deployment), route.clone());
            if let Some(domain) = deployment.domain {
                routes.insert(domain, route);
            }
        }
        if *self.routes.read() != routes {
            tracing::info!(routes = routes.len(), "routes of deployments changed");
            self.routes.replace(routes);
        }
        Ok(())
    }

    /// Deploys a sandbox. Once begun it goes on without the caller.
    pub(crate) async fn deploy(
        self: &Arc<Self>,
        sandbox: &SandboxRecord,
        new: NewDeployment,
    ) -> Result<DeploymentRecord, Failure> {
        if !sandbox.is_ready() {
            return Err(Failure::not_running(sandbox));
        }
        if self.compute.guest(&sandbox.vm).is_err() {
            return Err(Failure::new(
                ErrorCode::SandboxRuntimeUnavailable,
                "the sandbox is running but its VM cannot be reached yet",
            ));
        }
        let (control, tenant) = (Arc::clone(self), sandbox.tenant.clone());
        let begun = self.tasks.spawn(async move {
            let made = control.store.deploy(&tenant, &new).await?;
            control.repair_routes().await?;
            tracing::info!(
                deployment = %made.id,
                sandbox = %made.sandbox,
                port = made.port,
                "deployed"
            );
            Ok::<_, Failure>(made)
        });
        begun.await.map_err(Failure::internal)?
    }

    /// Takes a deployment down. Its sandbox stays.
    pub(crate) async fn delete_deployment(
        &self,
        tenant: &TenantId,
        id: &DeploymentId,
    ) -> Result<DeploymentRecord, Failure> {
        let deleted = self.store.delete_deployment(tenant, id).await?;
        let deleted = deleted.ok_or_else(Failure::deployment_not_found)?;
        self.repair_routes().await?;
        Ok(deleted)
    }

    /// The platform's name for a deployment.
    pub(crate) fn deployment_host(&self, deployment: &DeploymentRecord) -> String {
        let domain = &self.settings.preview.domain;
        format!("{}.{}.{domain}", deployment.slug, deployment.tenant_slug)
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::NotFound => Self::deployment_not_found(),
            DeployError::NotRunning => {
                Self::new(ErrorCode::SandboxNotRunning, "sandbox is not running")
            }
            DeployError::NoName => Self::new(ErrorCode::MissingParam, "name is required"),
            DeployError::DomainTaken => Self::new(
                ErrorCode::NameTaken,
                "the domain leads to another deployment",
            ),
            DeployError::Store(error) => error.into(),
        }
    }
}
