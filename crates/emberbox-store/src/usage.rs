//! What ran: segments of a sandbox's life, and the ledger they are settled
//! into.
//!
//! ```text
//! enters running ──▶ segment opens ──settled──settled──▶ leaves running: closes
//!                              every settlement: one entry, one charge
//! ```
//!
//! Decides: what a settlement appends. Invariants: a segment opens and closes
//! in the transaction that changes the state; the entries of a segment cover
//! `[opened_at, settled_until)` without gap or overlap; an entry, its charge
//! and `settled_until` are one transaction, so that nothing is billed twice or
//! lost wherever this process dies.

use std::time::Duration;

use emberbox_core::{Carry, Quantity, SandboxId, SandboxState, Shape, TenantId, VmId};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor, Transaction};

use crate::store::parse;
use crate::{SandboxRecord, Store, StoreError, credit};

mod query;
mod terms;

pub use query::{SandboxUse, UsageFilter, UsageGroup, UsageGrouping, UsageSession, UsageTotals};
pub use terms::BillingTerms;
pub(crate) use terms::current as current_terms;

/// What of a sandbox counts while a segment is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// It runs: vCPUs, memory and disk.
    Compute,
    /// It is paused, and its disk counts.
    Storage,
}

impl SegmentKind {
    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Storage => "storage",
        }
    }

    /// What counts of a sandbox that enters this state. Only a paused one is
    /// worth a look at the terms.
    async fn of(
        tx: &mut Transaction<'static, Sqlite>,
        state: SandboxState,
    ) -> Result<Option<Self>, StoreError> {
        match state {
            SandboxState::Running => Ok(Some(Self::Compute)),
            SandboxState::Paused => {
                let terms = current_terms(&mut **tx).await?;
                Ok(terms.paused_disk.then_some(Self::Storage))
            }
            SandboxState::Provisioning | SandboxState::Destroyed | SandboxState::Error => Ok(None),
        }
    }

    fn counted(self, shape: Shape) -> Shape {
        match self {
            Self::Compute => shape,
            Self::Storage => Shape {
                vcpus: 0,
                memory_mib: 0,
                ..shape
            },
        }
    }
}

impl std::str::FromStr for SegmentKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Compute, Self::Storage]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(())
    }
}

/// What the counters of one VM show, all of them from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readings {
    /// Bytes that left its network.
    pub egress_bytes: u64,
    /// Bytes that came into it.
    pub ingress_bytes: u64,
    /// Processor time of its VMM, in milliseconds; zero when unknown.
    pub cpu_ms: u64,
}

/// A segment that is not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSegment {
    /// Which.
    pub id: i64,
    /// Whose.
    pub sandbox: SandboxId,
    /// The life it counts.
    pub vm: VmId,
    /// What counts.
    pub kind: SegmentKind,
}

impl Store {
    /// Every segment that is not closed.
    pub async fn open_segments(&self) -> Result<Vec<OpenSegment>, StoreError> {
        let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
            "SELECT id, sandbox_id, vm_id, kind FROM usage_segments WHERE ended_at IS NULL",
        )
        .fetch_all(self.readers())
        .await?;
        rows.into_iter()
            .map(|(id, sandbox, vm, kind)| {
                Ok(OpenSegment {
                    id,
                    sandbox: parse("usage_segments.sandbox_id", &sandbox)?,
                    vm: parse("usage_segments.vm_id", &vm)?,
                    kind: parse("usage_segments.kind", &kind)?,
                })
            })
            .collect()
    }

    /// Keeps what a VM's counters show for the next settlement of its segment.
    /// Readings never go back: an older one changes nothing.
    pub async fn note_readings(&self, vm: &VmId, readings: Readings) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        note(&mut tx, vm, readings).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Settles an open segment up to `until`, a moment at which its VM was
    /// seen. A segment that was closed meanwhile is settled already.
    pub async fn settle_segment(
        &self,
        segment: &OpenSegment,
        until: Timestamp,
        readings: Option<Readings>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if let Some(readings) = readings {
            note(&mut tx, &segment.vm, readings).await?;
        }
        if let Some(row) = open(&mut *tx, "id", segment.id).await? {
            settle(&mut tx, row, Until::Moment(until), Then::GoesOn).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Closes a segment whose VM is gone, nobody knows since when: at the last
    /// moment it is proven to have run, which is the last settlement.
    pub async fn close_lost_segment(&self, segment: &OpenSegment) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        if let Some(row) = open(&mut *tx, "id", segment.id).await? {
            settle(&mut tx, row, Until::Proven, Then::Ends).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Opens and closes segments as the state (or the life) of a sandbox changes,
/// in the transaction that changes it. The sandbox comes back with the time
/// that was settled.
pub(crate) async fn follow(
    tx: &mut Transaction<'static, Sqlite>,
    before: &SandboxRecord,
    mut after: SandboxRecord,
    now: Timestamp,
) -> Result<SandboxRecord, StoreError> {
    if (before.state, &before.vm) == (after.state, &after.vm) {
        return Ok(after);
    }
    // Before it ran or was paused it has no segment.
    if before.state != SandboxState::Provisioning
        && let Some(row) = open(&mut **tx, "sandbox_id", after.id.as_str()).await?
    {
        after.runtime_ms += settle(tx, row, Until::Moment(now), Then::Ends).await?;
    }
    let Some(kind) = SegmentKind::of(tx, after.state).await? else {
        return Ok(after);
    };
    let counted = kind.counted(after.shape);
    let now = whole_ms(now);
    sqlx::query(
        "INSERT INTO usage_segments \
         (sandbox_id, vm_id, kind, vcpus, memory_mib, disk_mib, opened_at, settled_until) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(after.id.as_str())
    .bind(after.vm.as_str())
    .bind(kind.as_str())
    .bind(counted.vcpus)
    .bind(counted.memory_mib)
    .bind(counted.disk_mib)
    .bind(now)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(after)
}

/// Up to when a segment is settled.
enum Until {
    /// This one. The clock may have been set back: never before what is
    /// settled.
    Moment(Timestamp),
    /// What is settled already.
    Proven,
}

/// What becomes of a segment that was settled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Ends,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    sandbox_id: String,
    tenant_id: String,
    kind: String,
    vcpus: u32,
    memory_mib: u32,
    disk_mib: u32,
    settled_until: i64,
    egress_read: i64,
    egress_settled: i64,
    ingress_read: i64,
    ingress_settled: i64,
    cpu_ms_read: i64,
    cpu_ms_settled: i64,
    carry: i64,
}

impl Row {
    fn shape(&self) -> Shape {
        Shape {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            disk_mib: self.disk_mib,
        }
    }

    fn carry(&self) -> Result<Carry, StoreError> {
        let carry = u64::try_from(self.carry).ok().and_then(Carry::from_parts);
        carry.ok_or_else(|| StoreError::Corrupt {
            column: "usage_segments.carry",
            value: self.carry.to_string(),
        })
    }

    /// What is not in the ledger yet at `until`.
    fn unsettled(&self, ms: u64) -> Quantity {
        Quantity {
            egress_bytes: (self.egress_read - self.egress_settled).unsigned_abs(),
            ..Quantity::held(self.shape(), ms)
        }
    }
}

/// `column` is always a literal of this file.
async fn open<'q>(
    executor: impl SqliteExecutor<'_>,
    column: &'static str,
    value: impl sqlx::Encode<'q, Sqlite> + sqlx::Type<Sqlite> + Send + 'q,
) -> Result<Option<Row>, StoreError> {
    let text = format!(
        "SELECT g.id, g.sandbox_id, s.tenant_id, g.kind, g.vcpus, g.memory_mib, g.disk_mib, \
         g.settled_until, g.egress_read, g.egress_settled, g.ingress_read, g.ingress_settled, \
         g.cpu_ms_read, g.cpu_ms_settled, g.carry \
         FROM usage_segments g JOIN sandboxes s ON s.id = g.sandbox_id \
         WHERE g.{column} = ? AND g.ended_at IS NULL"
    );
    let row = sqlx::query_as(AssertSqlSafe(text))
        .bind(value)
        .fetch_optional(executor)
        .await?;
    Ok(row)
}

/// Says how many milliseconds more the sandbox has run.
async fn settle(
    tx: &mut Transaction<'static, Sqlite>,
    row: Row,
    until: Until,
    then: Then,
) -> Result<u64, StoreError> {
    let until = match until {
        Until::Moment(moment) => whole_ms(moment).max(row.settled_until),
        Until::Proven => row.settled_until,
    };
    let ms = (until - row.settled_until).unsigned_abs() / 1000;
    // Bytes alone wait for the next millisecond, or for the end.
    if ms == 0 && then == Then::GoesOn {
        return Ok(0);
    }
    let carry = append(tx, &row, until, ms).await?;
    sqlx::query(
        "UPDATE usage_segments SET settled_until = ?, ended_at = ?, carry = ?, \
         egress_settled = egress_read, ingress_settled = ingress_read, \
         cpu_ms_settled = cpu_ms_read WHERE id = ?",
    )
    .bind(until)
    .bind((then == Then::Ends).then_some(until))
    .bind(stored(carry.parts()))
    .bind(row.id)
    .execute(&mut **tx)
    .await?;
    if row.kind != SegmentKind::Compute.as_str() {
        return Ok(0);
    }
    sqlx::query("UPDATE sandboxes SET runtime_ms = runtime_ms + ? WHERE id = ?")
        .bind(stored(ms))
        .bind(&row.sandbox_id)
        .execute(&mut **tx)
        .await?;
    Ok(ms)
}

/// Appends what is unsettled to the ledger, and its charge to the tenant's
/// credit. Says what is left over of a micro-credit.
async fn append(
    tx: &mut Transaction<'static, Sqlite>,
    row: &Row,
    until: i64,
    ms: u64,
) -> Result<Carry, StoreError> {
    let quantity = row.unsettled(ms);
    let ingress = row.ingress_read - row.ingress_settled;
    let cpu_ms = row.cpu_ms_read - row.cpu_ms_settled;
    let carry = row.carry()?;
    if ms == 0 && quantity.egress_bytes == 0 && ingress == 0 && cpu_ms == 0 {
        return Ok(carry);
    }
    let terms = current_terms(&mut **tx).await?;
    let (charged, carry) = terms.prices.charge(&quantity, carry);
    let entry: i64 = sqlx::query_scalar(
        "INSERT INTO usage_entries (segment_id, tenant_id, from_at, until_at, vcpu_ms, \
         memory_mib_ms, disk_mib_ms, egress_bytes, ingress_bytes, active_cpu_ms, terms_id, \
         charged_micro) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(row.id)
    .bind(&row.tenant_id)
    .bind(row.settled_until)
    .bind(until)
    .bind(stored(quantity.vcpu_ms))
    .bind(stored(quantity.memory_mib_ms))
    .bind(stored(quantity.disk_mib_ms))
    .bind(stored(quantity.egress_bytes))
    .bind(ingress)
    .bind(cpu_ms)
    .bind(terms.id)
    .bind(charged)
    .fetch_one(&mut **tx)
    .await?;
    if charged > 0 {
        let tenant: TenantId = parse("sandboxes.tenant_id", &row.tenant_id)?;
        credit::charge(tx, &tenant, charged, entry).await?;
    }
    Ok(carry)
}

async fn note(
    tx: &mut Transaction<'static, Sqlite>,
    vm: &VmId,
    readings: Readings,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE usage_segments SET egress_read = max(egress_read, ?), \
         ingress_read = max(ingress_read, ?), cpu_ms_read = max(cpu_ms_read, ?) \
         WHERE vm_id = ? AND kind = 'compute' AND ended_at IS NULL",
    )
    .bind(stored(readings.egress_bytes))
    .bind(stored(readings.ingress_bytes))
    .bind(stored(readings.cpu_ms))
    .bind(vm.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The millisecond a moment falls into, in microseconds.
fn whole_ms(moment: Timestamp) -> i64 {
    moment.as_millisecond().saturating_mul(1000)
}

/// SQLite's integers end at 2^63: three hundred years of a thousand vCPUs.
fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Milliseconds between two stored moments.
fn between(from: i64, until: i64) -> Duration {
    Duration::from_micros((until - from).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests;
