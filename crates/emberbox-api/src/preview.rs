//! Previews: what listens in a sandbox, at an address of its own.

use emberbox_core::{PreviewId, SandboxId, ShareId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Time;

/// What `POST …/expose` takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ExposeRequest {
    /// The port inside the sandbox, 1 to 65535; the template's preview port
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub port: Option<Value>,
}

/// What `POST …/expose` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exposed {
    /// Where the port is reached.
    pub url: String,
    /// The same, under the name it has in a sandbox.
    pub preview_url: String,
}

/// What `POST …/previews` takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreatePreview {
    /// The port inside the sandbox, 1 to 65535; the template's preview port
    /// when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub port: Option<Value>,
    /// The caller's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another word for `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `public` or `private`; public when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
    /// Seconds until it closes by itself; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// The caller's data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// A port of a sandbox that is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Which.
    #[schema(value_type = String)]
    pub id: PreviewId,
    /// Its sandbox.
    #[schema(value_type = String)]
    pub sandbox_id: SandboxId,
    /// Its port.
    pub port: u16,
    /// `public` or `private`.
    pub visibility: String,
    /// `active`, `expired` or `deleted`.
    pub state: String,
    /// Where it is reached.
    pub url: String,
    /// The caller's name for it.
    pub name: Option<String>,
    /// The caller's data.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// How the token of its link begins, if it has one.
    pub share_token_prefix: Option<String>,
    /// When its link ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub share_token_expires_at: Option<Time>,
    /// When it closes by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What `POST …/previews/{pid}/share` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SharePreview {
    /// Seconds until the link ends; an hour when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
}

/// The link of a preview, with its token for the only time.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SharedPreview {
    /// The preview.
    pub preview: Preview,
    /// The token; never shown again.
    pub preview_token: String,
    /// The link; never shown again.
    pub share_url: String,
}

/// What `POST …/shares` and `POST …/preview-token` take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateShare {
    /// Only `read`: to see what is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Seconds until it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
}

/// A link to all previews of a sandbox.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// Which.
    #[schema(value_type = String)]
    pub share_id: ShareId,
    /// The link, when it was made just now; it cannot be had again.
    pub share_url: Option<String>,
    /// How its token begins.
    pub token_prefix: String,
    /// `read`.
    pub scope: String,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// A token for all previews of a sandbox, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewToken {
    /// The token.
    pub token: String,
    /// The sandbox's preview address with the token in it.
    pub url: String,
    /// `read`.
    pub scope: String,
    /// When it ends.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Time>,
}

/// What `/preview-domain` takes and answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PreviewDomain {
    /// The domain of the tenant's own: previews are told as
    /// `{slug}.sandbox.{domain}`. The platform's when null.
    pub domain: Option<String>,
}
