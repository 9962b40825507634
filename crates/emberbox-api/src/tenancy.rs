//! Who owns what.

use emberbox_core::{ApiKeyId, TenantId, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::Time;

/// A tenant's workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Workspace {
    /// Its identifier.
    pub id: Uuid,
    /// Unique in the tenant.
    pub slug: String,
    /// For people.
    pub name: String,
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// A workspace's project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its identifier.
    pub id: Uuid,
    /// The workspace it belongs to.
    pub workspace_id: Uuid,
    /// Unique in the workspace.
    pub slug: String,
    /// For people.
    pub name: String,
    /// Where sandboxes go that name none.
    pub is_default: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// Whom a key speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// The user.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// The key.
    #[schema(value_type = String)]
    pub api_key_id: ApiKeyId,
}
