//! The server about itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `GET /health` answers while the process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The server's version.
    pub version: String,
}

/// What `GET /ready` answers; 503 unless every part is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Everything below is true.
    pub ready: bool,
    /// The store answers.
    pub store: bool,
    /// The default template can be booted.
    pub image: bool,
}
