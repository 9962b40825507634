//! API keys, and tokens that are made with them.

use emberbox_core::{ApiKeyId, Scopes, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Time;

/// What `POST /api-keys` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateApiKey {
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds until it expires; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// What it may do; everything of the tenant that the maker's may when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// The only workspace it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// Whom it speaks for; its maker's user when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

/// What `PATCH /api-keys/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateApiKey {
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Seconds from now until it expires; null for never.
    #[serde(
        deserialize_with = "crate::patch::given",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<i64>)]
    pub expires_in_seconds: Option<Option<i64>>,
}

/// What `POST /api-keys/{id}/rotate` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RotateApiKey {
    /// Seconds the present secret goes on working; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<i64>,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its public name.
    #[schema(value_type = String)]
    pub id: ApiKeyId,
    /// What it is for.
    pub name: String,
    /// How its secret begins.
    pub prefix: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub scopes: Scopes,
    /// The only workspace it sees.
    pub workspace_id: Option<Uuid>,
    /// Whom it speaks for.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it stops working.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Time>,
    /// Until when the secret before its present one works.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub previous_until: Option<Time>,
}

/// A key with its new secret, for the only time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiKey {
    /// The key.
    #[serde(flatten)]
    pub info: ApiKey,
    /// Its secret; never shown again.
    pub key: String,
}

impl std::fmt::Debug for CreatedApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedApiKey")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What `POST /tokens/scoped` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateScopedToken {
    /// Your name of the end user it is for: it sees and makes only sandboxes
    /// with this `external_user_id`.
    pub user_id: String,
    /// The only workspace it sees.
    pub workspace_id: String,
    /// Seconds until it expires, at most 86400; 3600 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<i64>,
    /// Some of `sandboxes:read`, `sandboxes:create`, `sandboxes:exec`,
    /// `sandboxes:write` and `billing:read`; those its maker's key has when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScopedToken {
    /// Its public name.
    #[schema(value_type = String)]
    pub id: ApiKeyId,
    /// How its secret begins.
    pub prefix: String,
    /// The end user it is for.
    pub user_id: String,
    /// The only workspace it sees.
    pub workspace_id: Uuid,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub scopes: Scopes,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When it stops working.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Time,
}

/// A new token, with its secret for the only time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedScopedToken {
    /// The token.
    #[serde(flatten)]
    pub info: ScopedToken,
    /// Its secret; never shown again.
    pub token: String,
}

impl std::fmt::Debug for CreatedScopedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedScopedToken")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}
