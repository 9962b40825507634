//! Sandboxes.

use reqwest::Method;

use super::{Client, ClientError, encoded, parse, read, send};
use crate::{CreateSandbox, Data, DestroyedSandbox, Readiness, Sandbox};

impl Client {
    /// Creates a sandbox and waits, within the server's limit, until it is
    /// ready; its state says whether it is.
    pub async fn create_sandbox(&self, request: &CreateSandbox) -> Result<Sandbox, ClientError> {
        self.post("/sandboxes?wait=true", request).await
    }

    /// The same, and where the server says its time went (`Server-Timing`).
    pub async fn create_sandbox_timed(
        &self,
        request: &CreateSandbox,
    ) -> Result<(Sandbox, Option<String>), ClientError> {
        let path = "/sandboxes?wait=true";
        let response = send(self.request(Method::POST, path).json(request)).await?;
        let timing = response.headers().get("server-timing");
        let timing = timing
            .and_then(|text| text.to_str().ok())
            .map(str::to_owned);
        Ok((parse(response).await?, timing))
    }

    /// The tenant's sandboxes, of one state if given.
    pub async fn list_sandboxes(&self, state: Option<&str>) -> Result<Vec<Sandbox>, ClientError> {
        let query = state.map_or(String::new(), |state| format!("?state={}", encoded(state)));
        let answer: Data<_> = self.get(&format!("/sandboxes{query}")).await?;
        Ok(answer.data)
    }

    /// One sandbox.
    pub async fn get_sandbox(&self, id: &str) -> Result<Sandbox, ClientError> {
        self.get(&format!("/sandboxes/{}", encoded(id))).await
    }

    /// The newest sandbox of this name.
    pub async fn get_sandbox_by_name(&self, name: &str) -> Result<Sandbox, ClientError> {
        self.get(&format!("/sandboxes/by-name/{}", encoded(name)))
            .await
    }

    /// Whether it takes work.
    pub async fn readiness(&self, id: &str) -> Result<Readiness, ClientError> {
        let answer: Data<_> = self
            .get(&format!("/sandboxes/{}/readiness", encoded(id)))
            .await?;
        Ok(answer.data)
    }

    /// Ends a sandbox.
    pub async fn destroy_sandbox(&self, id: &str) -> Result<DestroyedSandbox, ClientError> {
        let path = format!("/sandboxes/{}", encoded(id));
        read(self.request(Method::DELETE, &path)).await
    }
}
