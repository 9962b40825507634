//! Terminals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What `POST …/terminal` takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OpenTerminal {
    /// Width in characters, 1 to 1000; 80 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cols: Option<i64>,
    /// Height in characters, 1 to 1000; 24 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Shell command; a login bash when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Working directory; `/root` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Another name of `cwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Variables of this terminal only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

/// A terminal that waits for its WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terminal {
    /// Its name, 16 hexadecimal digits.
    pub session_id: String,
    /// Where its WebSocket is; `session_id` and `token` go into the query.
    pub ws_url: String,
    /// The `token` for the WebSocket, in place of the key.
    pub stream_auth: String,
    /// When `stream_auth` expires. A socket that is open stays so.
    #[schema(value_type = String, format = DateTime)]
    pub stream_auth_expires_at: Time,
}
