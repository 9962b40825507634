//! Whom a secret speaks for, and for how long.

use std::fmt;

use emberbox_core::{ApiKeyId, Scopes, TenantId, TenantLimits, UserId};
use jiff::Timestamp;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Sqlite, SqliteExecutor};
use uuid::Uuid;

use super::hash;
use crate::store::parse;
use crate::{Store, StoreError, time};

/// Whom a key speaks for, and what it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key.
    pub key: ApiKeyId,
    /// Which of its secrets was shown: how often it had been replaced.
    pub generation: u32,
    /// When that secret stops working.
    pub ends: Option<Timestamp>,
    /// What it may do.
    pub scopes: Scopes,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its user.
    pub user: UserId,
    /// What of its tenant it sees.
    pub bounds: Bounds,
    /// The workspace of what names none: that one, or the tenant's default.
    pub home: Uuid,
    /// What its tenant may use in place of the settings.
    pub limits: TenantLimits,
    /// Since when its tenant is suspended.
    pub suspended_at: Option<Timestamp>,
}

/// What of its tenant a key sees: nothing but this, where it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// What is in this workspace.
    pub workspace: Option<Uuid>,
    /// What was made for this end user (`external_user_id`).
    pub end_user: Option<String>,
}

impl fmt::Display for Bounds {
    /// Different for different bounds, the end user's name last: it may hold
    /// anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(workspace) = self.workspace {
            write!(f, "workspace {workspace}")?;
        }
        if let Some(end_user) = &self.end_user {
            write!(f, " end user {end_user}")?;
        }
        Ok(())
    }
}

impl Bounds {
    /// Whether the whole tenant is in sight.
    #[must_use]
    pub fn are_open(&self) -> bool {
        self.workspace.is_none() && self.end_user.is_none()
    }

    /// Whether a workspace of the tenant is in sight.
    #[must_use]
    pub fn reach(&self, workspace: Uuid) -> bool {
        self.workspace.is_none_or(|bound| bound == workspace)
    }

    /// Whether what is in this workspace, for this end user, is in sight.
    #[must_use]
    pub fn show(&self, workspace: Uuid, end_user: Option<&str>) -> bool {
        let own = |bound: &String| Some(bound.as_str()) == end_user;
        self.reach(workspace) && self.end_user.as_ref().is_none_or(own)
    }
}

impl Store {
    /// Whom this secret speaks for, if it is a valid key's.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<Caller>, StoreError> {
        let hash = hash(secret);
        let read = self.read_caller(&hash);
        let caller = self
            .fresh()
            .or_read(|kept| &mut kept.callers, hash.clone(), read)
            .await?;
        let still = |caller: &Caller| caller.ends.is_none_or(|ends| ends > time::now());
        Ok(caller.filter(still))
    }

    async fn read_caller(&self, hash: &[u8]) -> Result<Option<Caller>, StoreError> {
        let row = select(
            "WHERE k.secret_sha256 = ?1 OR k.previous_sha256 = ?1",
            |query| query.bind(hash.to_vec()),
        );
        let row = row.fetch_optional(self.readers()).await?;
        let Some(row) = row else { return Ok(None) };
        let replaced = u32::from(row.secret_sha256 != hash);
        let generation = row.generation.checked_sub(replaced);
        match generation {
            Some(generation) => row.into_caller(generation, time::now()),
            None => Ok(None),
        }
    }

    /// Whom a secret that was shown before speaks for now, if it still does.
    pub async fn caller(
        &self,
        key: &ApiKeyId,
        generation: u32,
    ) -> Result<Option<Caller>, StoreError> {
        caller(self.readers(), key, generation).await
    }
}

pub(crate) async fn caller(
    executor: impl SqliteExecutor<'_>,
    key: &ApiKeyId,
    generation: u32,
) -> Result<Option<Caller>, StoreError> {
    let row = select("WHERE k.id = ?", |query| query.bind(key.as_str()));
    match row.fetch_optional(executor).await? {
        Some(row) => row.into_caller(generation, time::now()),
        None => Ok(None),
    }
}

/// Whom a key spoke for when something was begun with it, also when it has
/// ended since.
pub(crate) async fn whoever_began(
    executor: impl SqliteExecutor<'_>,
    key: &ApiKeyId,
) -> Result<Option<Caller>, StoreError> {
    let row = select("WHERE k.id = ?", |query| query.bind(key.as_str()));
    let row = row.fetch_optional(executor).await?;
    row.map(|row| {
        let generation = row.generation;
        row.read(generation, None)
    })
    .transpose()
}

#[derive(sqlx::FromRow)]
struct CallerRow {
    id: String,
    secret_sha256: Vec<u8>,
    generation: u32,
    previous_until: Option<i64>,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    scopes: Option<String>,
    tenant_id: String,
    user_id: String,
    workspace_id: Option<String>,
    end_user: Option<String>,
    default_workspace_id: String,
    limits: Json<TenantLimits>,
    suspended_at: Option<i64>,
    deleted_at: Option<i64>,
}

type CallerQuery<'q> = sqlx::query::QueryAs<'q, Sqlite, CallerRow, sqlx::sqlite::SqliteArguments>;

/// `rest` is always a literal of this file; values only ever go through `bind`.
fn select<'q>(
    rest: &'static str,
    bind: impl FnOnce(CallerQuery<'q>) -> CallerQuery<'q>,
) -> CallerQuery<'q> {
    let text = format!(
        "SELECT k.id, k.secret_sha256, k.generation, k.previous_until, k.expires_at, \
         k.revoked_at, k.scopes, k.tenant_id, k.user_id, k.workspace_id, \
         k.end_user, w.id AS default_workspace_id, t.limits, t.suspended_at, t.deleted_at \
         FROM api_keys k JOIN tenants t ON t.id = k.tenant_id \
         JOIN workspaces w ON w.tenant_id = k.tenant_id AND w.is_default = 1 {rest}"
    );
    bind(sqlx::query_as(AssertSqlSafe(text)))
}

impl CallerRow {
    /// Whom the key's secret of this generation speaks for at `now`.
    fn into_caller(self, generation: u32, now: Timestamp) -> Result<Option<Caller>, StoreError> {
        let expires_at = time::read_opt("api_keys.expires_at", self.expires_at)?;
        let replaced = match self.generation.checked_sub(generation) {
            Some(0) => None,
            // Only the one before may have been left some time.
            Some(1) => {
                let until = time::read_opt("api_keys.previous_until", self.previous_until)?;
                Some(until.unwrap_or(Timestamp::MIN))
            }
            Some(_) | None => return Ok(None),
        };
        let ends = expires_at.into_iter().chain(replaced).min();
        let over = self.revoked_at.is_some()
            || self.deleted_at.is_some()
            || ends.is_some_and(|ends| ends <= now);
        if over {
            return Ok(None);
        }
        self.read(generation, ends).map(Some)
    }

    fn read(self, generation: u32, ends: Option<Timestamp>) -> Result<Caller, StoreError> {
        let workspace = self.workspace_id.as_deref();
        let workspace = workspace
            .map(|id| parse("api_keys.workspace_id", id))
            .transpose()?;
        let default = parse("workspaces.id", &self.default_workspace_id)?;
        Ok(Caller {
            key: parse("api_keys.id", &self.id)?,
            generation,
            ends,
            scopes: super::read_scopes(self.scopes.as_deref())?,
            tenant: parse("api_keys.tenant_id", &self.tenant_id)?,
            user: parse("api_keys.user_id", &self.user_id)?,
            bounds: Bounds {
                workspace,
                end_user: self.end_user,
            },
            home: workspace.unwrap_or(default),
            limits: self.limits.0,
            suspended_at: time::read_opt("tenants.suspended_at", self.suspended_at)?,
        })
    }
}
