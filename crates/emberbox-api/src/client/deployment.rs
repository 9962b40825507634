//! Deployments.

use reqwest::Method;

use super::{Client, ClientError, encoded, of_sandbox, read};
use crate::{Data, Deploy, Deployment};

impl Client {
    /// Gives a sandbox's app a lasting address.
    pub async fn deploy(&self, id: &str, request: &Deploy) -> Result<Deployment, ClientError> {
        self.post(&of_sandbox(id, "deploy"), request).await
    }

    /// The tenant's deployments.
    pub async fn list_deployments(&self) -> Result<Vec<Deployment>, ClientError> {
        self.get_data("/deployments").await
    }

    /// One deployment.
    pub async fn get_deployment(&self, id: &str) -> Result<Deployment, ClientError> {
        self.get_data(&format!("/deployments/{}", encoded(id)))
            .await
    }

    /// Takes a deployment down; its sandbox stays.
    pub async fn delete_deployment(&self, id: &str) -> Result<Deployment, ClientError> {
        let path = format!("/deployments/{}", encoded(id));
        let Data { data } = read(self.request(Method::DELETE, &path)).await?;
        Ok(data)
    }
}
