//! Where previews are served.

use emberbox_control::PreviewSettings;

use super::{ConfigError, at_most, not_zero};

/// Longest a preview may wait for a guest's first byte, in seconds. What takes
/// longer is no page any more, and every wait holds a connection.
const MAX_HEAD_TIMEOUT_SEC: u32 = 3600;

/// Longest silence of an upgraded connection, in seconds: a week, over which no
/// page is looked at.
const MAX_TUNNEL_IDLE_SEC: u32 = 7 * 24 * 3600;

/// Most connections to one sandbox: half of the server's own connections, so
/// that one sandbox never takes all.
const MAX_PREVIEW_CONNECTIONS: usize = 2048;

/// Checks what an operator set.
pub(super) fn check(preview: &PreviewSettings) -> Result<(), ConfigError> {
    if !PreviewSettings::is_domain(&preview.domain) {
        return Err(ConfigError::Value {
            key: "preview.domain",
            problem: "must be a DNS name in lower case, without a port".to_owned(),
        });
    }
    if preview.head_timeout_sec > MAX_HEAD_TIMEOUT_SEC {
        return Err(at_most("preview.head_timeout_sec", MAX_HEAD_TIMEOUT_SEC));
    }
    if preview.tunnel_idle_sec > MAX_TUNNEL_IDLE_SEC {
        return Err(at_most("preview.tunnel_idle_sec", MAX_TUNNEL_IDLE_SEC));
    }
    if preview.max_connections > MAX_PREVIEW_CONNECTIONS {
        return Err(at_most("preview.max_connections", MAX_PREVIEW_CONNECTIONS));
    }
    for (key, zero) in [
        ("preview.public_port", preview.public_port == Some(0)),
        ("preview.head_timeout_sec", preview.head_timeout_sec == 0),
        ("preview.tunnel_idle_sec", preview.tunnel_idle_sec == 0),
        ("preview.max_connections", preview.max_connections == 0),
    ] {
        if zero {
            return Err(not_zero(key));
        }
    }
    Ok(())
}
