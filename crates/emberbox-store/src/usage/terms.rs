//! What running costs now, and who may start something.

use emberbox_core::Prices;
use sqlx::SqliteExecutor;

use crate::{Store, StoreError, time};

/// Prices and rules of all tenants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BillingTerms {
    /// What each thing costs.
    pub prices: Prices,
    /// Whether an account that cannot pay is refused new work.
    pub enforce: bool,
    /// What an account must have for new work, in micro-credits.
    pub minimum_balance: i64,
    /// Whether the disk of a paused sandbox counts.
    pub paused_disk: bool,
}

/// Terms as they are stored: every entry of the ledger names its own.
pub(crate) struct StoredTerms {
    pub(crate) id: i64,
    terms: BillingTerms,
}

impl std::ops::Deref for StoredTerms {
    type Target = BillingTerms;

    fn deref(&self) -> &BillingTerms {
        &self.terms
    }
}

impl Store {
    /// What applies now.
    pub async fn billing_terms(&self) -> Result<BillingTerms, StoreError> {
        Ok(current(self.readers()).await?.terms)
    }

    /// From now on these apply. Terms that apply already change nothing.
    pub async fn set_billing_terms(&self, terms: &BillingTerms) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if current(&mut *tx).await?.terms == *terms {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO billing_terms (set_at, vcpu_hour, memory_gib_hour, disk_gib_hour, \
             egress_gib, enforce, minimum_balance, paused_disk) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(time::now().as_microsecond())
        .bind(terms.prices.vcpu_hour)
        .bind(terms.prices.memory_gib_hour)
        .bind(terms.prices.disk_gib_hour)
        .bind(terms.prices.egress_gib)
        .bind(terms.enforce)
        .bind(terms.minimum_balance)
        .bind(terms.paused_disk)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// What applies now.
pub(crate) async fn current(executor: impl SqliteExecutor<'_>) -> Result<StoredTerms, StoreError> {
    let row: Row = sqlx::query_as(
        "SELECT id, vcpu_hour, memory_gib_hour, disk_gib_hour, egress_gib, enforce, \
         minimum_balance, paused_disk FROM billing_terms ORDER BY id DESC LIMIT 1",
    )
    .fetch_one(executor)
    .await?;
    Ok(StoredTerms {
        id: row.id,
        terms: BillingTerms {
            prices: Prices {
                vcpu_hour: row.vcpu_hour,
                memory_gib_hour: row.memory_gib_hour,
                disk_gib_hour: row.disk_gib_hour,
                egress_gib: row.egress_gib,
            },
            enforce: row.enforce,
            minimum_balance: row.minimum_balance,
            paused_disk: row.paused_disk,
        },
    })
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    vcpu_hour: u32,
    memory_gib_hour: u32,
    disk_gib_hour: u32,
    egress_gib: u32,
    enforce: bool,
    minimum_balance: i64,
    paused_disk: bool,
}
