//! How many requests a workspace may send.
//!
//! A workspace has an allowance of as many requests as it may send in a minute,
//! which fills up evenly: 300 are 300 at once, or 5 a second for ever.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::sleep;
use uuid::Uuid;

use super::Control;

/// How often workspaces whose allowance is full are forgotten: that is what one
/// that nobody knows has, too. Between two rounds the table holds what sent
/// anything, some hundred bytes each.
const FORGET: Duration = Duration::from_secs(60);

type Allowances = DefaultKeyedRateLimiter<Uuid>;

/// The allowances of every workspace, by how large they are. A workspace whose
/// tenant's limit is changed begins with a full one.
///
/// The lock is only ever written when a size is seen for the first time; the
/// allowances themselves are atomics in a sharded map.
#[derive(Default)]
pub(crate) struct Rates(RwLock<HashMap<NonZeroU32, Arc<Allowances>>>);

impl Rates {
    /// Takes one request off a workspace's allowance, or says how long it has
    /// to wait for one.
    pub(crate) fn take(&self, workspace: Uuid, per_minute: u32) -> Result<(), Duration> {
        let Some(per_minute) = NonZeroU32::new(per_minute) else {
            return Ok(());
        };
        let allowances = self.of_size(per_minute);
        allowances
            .check_key(&workspace)
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    fn of_size(&self, per_minute: NonZeroU32) -> Arc<Allowances> {
        let sizes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sizes.get(&per_minute) {
            return Arc::clone(known);
        }
        drop(sizes);
        let mut sizes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let quota = Quota::per_minute(per_minute);
        let made = || Arc::new(RateLimiter::keyed(quota));
        Arc::clone(sizes.entry(per_minute).or_insert_with(made))
    }

    /// Forgets every allowance that is full.
    fn forget_full(&self) {
        let mut sizes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sizes.retain(|_, allowances| {
            allowances.retain_recent();
            allowances.shrink_to_fit();
            !allowances.is_empty()
        });
    }
}

impl Control {
    pub(super) async fn keep_rates_small(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                () = sleep(FORGET) => self.rates.forget_full(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
