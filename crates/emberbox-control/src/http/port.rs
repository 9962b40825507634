//! Ports of a sandbox, as they are asked for.

use emberbox_api::ErrorCode;

use crate::Failure;

/// A port that can be shown: any but the agent's.
pub(super) fn check(asked: i64) -> Result<u16, Failure> {
    let port = u16::try_from(asked).ok();
    port.filter(|port| *port != 0 && *port != emberbox_guest::PORT)
        .ok_or_else(|| {
            Failure::new(
                ErrorCode::InvalidPort,
                format!(
                    "port must be a number from 1 to 65535, other than {}",
                    emberbox_guest::PORT
                ),
            )
        })
}
