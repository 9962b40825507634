//! Keys, and whom they speak for.

use reqwest::Method;

use super::{Client, ClientError, encoded, send};
use crate::{
    ApiKey, CreateApiKey, CreateScopedToken, CreatedApiKey, CreatedScopedToken, Data, RotateApiKey,
    UpdateApiKey, Whoami,
};

impl Client {
    /// Makes a key; its secret is in the answer and nowhere else.
    pub async fn create_key(&self, request: &CreateApiKey) -> Result<CreatedApiKey, ClientError> {
        let answer: Data<_> = self.post("/api-keys", request).await?;
        Ok(answer.data)
    }

    /// The tenant's keys.
    pub async fn list_keys(&self) -> Result<Vec<ApiKey>, ClientError> {
        let answer: Data<_> = self.get("/api-keys").await?;
        Ok(answer.data)
    }

    /// Changes a key.
    pub async fn update_key(&self, id: &str, change: &UpdateApiKey) -> Result<ApiKey, ClientError> {
        self.patch_data(&format!("/api-keys/{}", encoded(id)), change)
            .await
    }

    /// Gives a key another secret, which is in the answer and nowhere else.
    pub async fn rotate_key(
        &self,
        id: &str,
        request: &RotateApiKey,
    ) -> Result<CreatedApiKey, ClientError> {
        self.post_data(&format!("/api-keys/{}/rotate", encoded(id)), request)
            .await
    }

    /// Makes a token for an end user; its secret is in the answer and nowhere
    /// else.
    pub async fn create_token(
        &self,
        request: &CreateScopedToken,
    ) -> Result<CreatedScopedToken, ClientError> {
        self.post_data("/tokens/scoped", request).await
    }

    /// Revokes a key.
    pub async fn revoke_key(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/api-keys/{}", encoded(id));
        send(self.request(Method::DELETE, &path)).await.map(drop)
    }

    /// Whom the key speaks for.
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        let answer: Data<_> = self.get("/whoami").await?;
        Ok(answer.data)
    }
}
