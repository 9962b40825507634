//! Tickets for streams.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What `POST /auth/sse-ticket` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateTicket {
    /// The one stream it shall open, for example `/sandboxes/{id}/events`;
    /// any GET stream when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Opens one GET stream, once, as `?ticket=`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamTicket {
    /// What to show; never shown again.
    pub ticket: String,
    /// Seconds until it stops working.
    pub expires_in: i64,
    /// When that is.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Time,
}

impl std::fmt::Debug for StreamTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamTicket")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
