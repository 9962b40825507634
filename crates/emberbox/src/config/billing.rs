//! What running costs.

use emberbox_control::BillingSettings;

use super::{ConfigError, at_most, not_zero};

/// Longest time between settlements: what dies with its server unseen runs
/// for nothing since the last one.
const MAX_SETTLE_INTERVAL_SEC: u32 = 3600;

/// Checks what an operator set.
pub(super) fn check(billing: &BillingSettings) -> Result<(), ConfigError> {
    if billing.settle_interval_sec == 0 {
        return Err(not_zero("billing.settle_interval_sec"));
    }
    if billing.settle_interval_sec > MAX_SETTLE_INTERVAL_SEC {
        return Err(at_most(
            "billing.settle_interval_sec",
            MAX_SETTLE_INTERVAL_SEC,
        ));
    }
    if billing.minimum_balance_micro < 0 {
        return Err(ConfigError::Value {
            key: "billing.minimum_balance_micro",
            problem: "must not be less than 0".to_owned(),
        });
    }
    Ok(())
}
