//! Credit: what a tenant was granted, what it was charged, what is left.
//!
//! Invariants: entries are only ever appended; the balance is that of the
//! newest entry, and the sum of all of them.

use emberbox_core::{ApiKeyId, SandboxId, TenantId};
use jiff::Timestamp;
use sqlx::{Sqlite, SqliteExecutor, Transaction};

use crate::store::parse;
use crate::{SandboxRecord, Store, StoreError, sandbox, time, usage};

/// What moved a balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditKind {
    /// An operator gave credit.
    Grant,
    /// Something ran.
    Charge,
    /// An operator put something right.
    Adjustment,
}

impl CreditKind {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Charge => "charge",
            Self::Adjustment => "adjustment",
        }
    }
}

impl std::str::FromStr for CreditKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Grant, Self::Charge, Self::Adjustment]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// One line of a tenant's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditEntry {
    /// Grows with every entry.
    pub id: i64,
    /// What it is.
    pub kind: CreditKind,
    /// By how much the balance moved, in micro-credits.
    pub amount_micro: i64,
    /// The balance after it.
    pub balance_micro: i64,
    /// What a charge is for.
    pub sandbox: Option<SandboxId>,
    /// What the operator wrote.
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What an operator does to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditChange {
    /// Gives this many micro-credits, more than none.
    Grant(i64),
    /// Moves the balance by this much, up or down.
    Adjust(i64),
}

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum CreditError {
    /// There is no such tenant.
    #[error("no such tenant")]
    NoTenant,
    /// The balance would not fit.
    #[error("the balance would not fit")]
    TooMuch,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CreditError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// An account that cannot pay for new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotPay {
    /// What it has, in micro-credits.
    pub balance_micro: i64,
    /// What it must have.
    pub minimum_micro: i64,
}

impl Store {
    /// What the tenant has left, in micro-credits.
    pub async fn credit_balance(&self, tenant: &TenantId) -> Result<i64, StoreError> {
        balance(self.readers(), tenant).await
    }

    /// The newest entries of the tenant's account, newest first.
    pub async fn credit_entries(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<CreditEntry>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT c.id, c.kind, c.amount_micro, c.balance_micro, g.sandbox_id, c.note, \
             c.created_at FROM credit_entries c \
             LEFT JOIN usage_entries e ON e.id = c.usage_entry_id \
             LEFT JOIN usage_segments g ON g.id = e.segment_id \
             WHERE c.tenant_id = ? ORDER BY c.id DESC LIMIT ?",
        )
        .bind(tenant.as_str())
        .bind(limit)
        .fetch_all(self.readers())
        .await?;
        rows.into_iter().map(Row::into_entry).collect()
    }

    /// Changes a tenant's account on behalf of the operator whose key this is.
    pub async fn change_credit(
        &self,
        tenant: &TenantId,
        change: CreditChange,
        note: Option<&str>,
        by: &ApiKeyId,
    ) -> Result<CreditEntry, CreditError> {
        let (kind, amount) = match change {
            CreditChange::Grant(amount) => (CreditKind::Grant, amount),
            CreditChange::Adjust(amount) => (CreditKind::Adjustment, amount),
        };
        let mut tx = self.write().await?;
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tenants WHERE id = ?)")
            .bind(tenant.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if !known {
            return Err(CreditError::NoTenant);
        }
        let balance = balance(&mut *tx, tenant).await?.checked_add(amount);
        let balance = balance.ok_or(CreditError::TooMuch)?;
        let at = time::now();
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO credit_entries \
             (tenant_id, kind, amount_micro, balance_micro, note, key_id, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(tenant.as_str())
        .bind(kind.as_str())
        .bind(amount)
        .bind(balance)
        .bind(note)
        .bind(by.as_str())
        .bind(at.as_microsecond())
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(CreditEntry {
            id,
            kind,
            amount_micro: amount,
            balance_micro: balance,
            sandbox: None,
            note: note.map(str::to_owned),
            at,
        })
    }

    /// Why the tenant may not start anything now, if it may not.
    pub async fn cannot_pay(&self, tenant: &TenantId) -> Result<Option<CannotPay>, StoreError> {
        let terms = usage::current_terms(self.readers()).await?;
        if !terms.enforce {
            return Ok(None);
        }
        let balance = balance(self.readers(), tenant).await?;
        Ok(judge(balance, terms.minimum_balance))
    }

    /// Running sandboxes of tenants that have no credit left.
    pub async fn running_without_credit(&self) -> Result<Vec<SandboxRecord>, StoreError> {
        sandbox::running_without_credit(self.readers()).await
    }
}

/// Why a tenant may not start anything, decided in the transaction that would.
pub(crate) async fn cannot_pay(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
) -> Result<Option<CannotPay>, StoreError> {
    let terms = usage::current_terms(&mut **tx).await?;
    if !terms.enforce {
        return Ok(None);
    }
    Ok(judge(
        balance(&mut **tx, tenant).await?,
        terms.minimum_balance,
    ))
}

/// An account must have something, and no less than the minimum.
fn judge(balance_micro: i64, minimum_micro: i64) -> Option<CannotPay> {
    (balance_micro <= 0 || balance_micro < minimum_micro).then_some(CannotPay {
        balance_micro,
        minimum_micro,
    })
}

/// Charges a tenant for an entry of the ledger, in the transaction that
/// appends it. A balance may go below zero: what ran, ran.
pub(crate) async fn charge(
    tx: &mut Transaction<'static, Sqlite>,
    tenant: &TenantId,
    micro: i64,
    usage_entry: i64,
) -> Result<(), StoreError> {
    let balance = balance(&mut **tx, tenant).await?.saturating_sub(micro);
    sqlx::query(
        "INSERT INTO credit_entries \
         (tenant_id, kind, amount_micro, balance_micro, usage_entry_id, created_at) \
         VALUES (?, 'charge', ?, ?, ?, ?)",
    )
    .bind(tenant.as_str())
    .bind(-micro)
    .bind(balance)
    .bind(usage_entry)
    .bind(time::now().as_microsecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn balance(executor: impl SqliteExecutor<'_>, tenant: &TenantId) -> Result<i64, StoreError> {
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT balance_micro FROM credit_entries WHERE tenant_id = ? ORDER BY id DESC LIMIT 1",
    )
    .bind(tenant.as_str())
    .fetch_optional(executor)
    .await?;
    Ok(newest.unwrap_or(0))
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    kind: String,
    amount_micro: i64,
    balance_micro: i64,
    sandbox_id: Option<String>,
    note: Option<String>,
    created_at: i64,
}

impl Row {
    fn into_entry(self) -> Result<CreditEntry, StoreError> {
        let sandbox = self.sandbox_id.as_deref();
        Ok(CreditEntry {
            id: self.id,
            kind: parse("credit_entries.kind", &self.kind)?,
            amount_micro: self.amount_micro,
            balance_micro: self.balance_micro,
            sandbox: sandbox
                .map(|id| parse("usage_segments.sandbox_id", id))
                .transpose()?,
            note: self.note,
            at: time::read("credit_entries.created_at", self.created_at)?,
        })
    }
}

#[cfg(test)]
mod tests;
