//! The intent to make a sandbox, in one transaction.

use emberbox_core::{BuildId, Limits, SandboxId, SandboxState, SnapshotId, VmId, id};
use sqlx::types::Json;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{ExternalIds, NewSandbox, SandboxRecord, query};
use crate::place::Placing;
use crate::{
    Caller, CannotPay, OnceRequest, PlaceError, Recalled, Store, StoreError, app, batch, build,
    credit, event, place, request, time,
};

/// How many sandboxes a tenant has. The states are those of the index
/// `sandboxes_live`, word for word: so it does not read all there ever were.
pub(super) const LIVE: &str = "SELECT count(*) FROM sandboxes \
    WHERE tenant_id = ? AND state IN ('provisioning', 'running', 'paused')";

/// What came of a request for a sandbox.
#[derive(Debug)]
pub enum Inserted {
    /// A row was written; nobody works on it yet.
    New(SandboxRecord),
    /// The same request made this one before.
    Existing(SandboxRecord),
}

/// Why no sandbox was recorded. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The tenant has as many as it may have.
    #[error("the tenant has {live} of {limit} sandboxes")]
    LimitExceeded {
        /// How many exist.
        live: u32,
        /// How many may.
        limit: u32,
    },
    /// The tenant's account cannot pay for it.
    #[error("the balance is {} micro-credits", .0.balance_micro)]
    InsufficientCredits(CannotPay),
    /// The request's key came with another body before.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// The item of the batch has a sandbox, or was cancelled.
    #[error("the item of the batch is taken")]
    BatchItemTaken,
    /// The image of its template is gone, or goes just now.
    #[error("the image of the template is gone")]
    ImageGone,
    /// The chosen slug belongs to another sandbox.
    #[error("the slug is in use")]
    SlugTaken,
    /// The workspace or project is not there.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Records a sandbox in `provisioning` with its first VM's id, unless the
    /// request made one already or the tenant has as many as it may.
    pub async fn insert_sandbox(
        &self,
        caller: &Caller,
        new: &NewSandbox,
        once: Option<&OnceRequest>,
        limits: &Limits,
    ) -> Result<Inserted, InsertError> {
        let mut tx = self.write().await?;
        if let Some(once) = once {
            let made = match request::recall(&mut *tx, once).await? {
                Recalled::Nothing => None,
                Recalled::OtherBody => return Err(InsertError::KeyReused),
                Recalled::Made(id) => Some(id),
                Recalled::Answered { made, .. } => made,
            };
            if let Some(id) = made
                && let Some(existing) = query::by_id(&mut *tx, &id).await?
            {
                return Ok(Inserted::Existing(existing));
            }
        }
        let live: u32 = sqlx::query_scalar(LIVE)
            .bind(caller.tenant.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let limit = limits.max_sandboxes;
        if live >= limit {
            return Err(InsertError::LimitExceeded { live, limit });
        }
        if let Some(cannot_pay) = credit::cannot_pay(&mut tx, &caller.tenant).await? {
            return Err(InsertError::InsufficientCredits(cannot_pay));
        }
        if let Some(build) = &new.build
            && !build::can_boot(&mut tx, build).await?
        {
            return Err(InsertError::ImageGone);
        }
        let at = belonging(&mut tx, caller, new, limits).await?;
        let record = record(caller, new, at);
        insert(&mut tx, &record).await?;
        if let Some(item) = &new.batch_item
            && !batch::claim(&mut tx, item, &record.id).await?
        {
            return Err(InsertError::BatchItemTaken);
        }
        event::state_changed(&mut tx, &record.id, None, record.state).await?;
        if let Some(origin) = &record.origin {
            app::take_from(&mut tx, &record.id, origin).await?;
        }
        if let Some(once) = once {
            request::made(&mut tx, once, record.id.as_str()).await?;
        }
        tx.commit().await?;
        Ok(Inserted::New(record))
    }
}

/// Where a sandbox is to belong.
#[derive(Debug)]
pub(crate) struct Belonging {
    pub(crate) workspace: Uuid,
    pub(crate) project: Uuid,
    pub(crate) external: ExternalIds,
}

/// Where what is asked for is to belong, if it may be there.
pub(crate) async fn belonging(
    tx: &mut Transaction<'static, Sqlite>,
    caller: &Caller,
    new: &NewSandbox,
    limits: &Limits,
) -> Result<Belonging, InsertError> {
    if let Some(slug) = &new.slug {
        let taken: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM sandboxes WHERE slug = ? AND state <> 'destroyed')",
        )
        .bind(slug)
        .fetch_one(&mut **tx)
        .await?;
        if taken {
            return Err(InsertError::SlugTaken);
        }
    }
    let external = own_external(caller, &new.external)?;
    let placing = Placing {
        caller,
        request: &new.place,
        limits,
    };
    let (workspace, project) = place::resolve(tx, placing).await?;
    Ok(Belonging {
        workspace,
        project,
        external,
    })
}

fn record(caller: &Caller, new: &NewSandbox, at: Belonging) -> SandboxRecord {
    let new = new.clone();
    SandboxRecord {
        // A VM that waits for its sandbox may have the name of it.
        id: new
            .vm
            .as_ref()
            .map_or_else(SandboxId::generate, VmId::own_sandbox),
        tenant: caller.tenant.clone(),
        owner: caller.user.clone(),
        workspace_id: at.workspace,
        project_id: at.project,
        external: at.external,
        name: new.name,
        slug: new.slug.unwrap_or_else(id::slug),
        tags: new.tags,
        metadata: new.metadata,
        env: new.env,
        template_id: new.template_id,
        image_id: new.image_id,
        build: new.build,
        size: new.size,
        shape: new.shape,
        timeout_sec: new.timeout_sec,
        idle_timeout_sec: new.idle_timeout_sec,
        always_on: new.always_on,
        persistent: new.persistent,
        auto_start: new.auto_start,
        state: SandboxState::Provisioning,
        error_message: None,
        vm: new.vm.unwrap_or_else(VmId::generate),
        boot_path: None,
        boot_ms: None,
        created_at: time::now(),
        started_at: None,
        ready_at: None,
        destroy_requested_at: None,
        ended_at: None,
        destroyed_at: None,
        origin: new.origin,
        last_snapshot: None,
        paused_at: None,
        moved_us: 0,
        runtime_ms: 0,
    }
}

/// The external ids of what a caller makes: its end user's, if it is bound to
/// one.
fn own_external(caller: &Caller, asked: &ExternalIds) -> Result<ExternalIds, PlaceError> {
    let Some(end_user) = &caller.bounds.end_user else {
        return Ok(asked.clone());
    };
    if asked.user.as_ref().is_some_and(|user| user != end_user) {
        return Err(PlaceError::Field {
            field: "external_user_id",
            message: "is not the one the token is bound to",
        });
    }
    Ok(ExternalIds {
        user: Some(end_user.clone()),
        ..asked.clone()
    })
}

async fn insert(
    tx: &mut Transaction<'static, Sqlite>,
    record: &SandboxRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sandboxes (id, tenant_id, owner_id, workspace_id, project_id, \
         external_workspace_id, external_user_id, external_project_id, name, slug, tags, \
         metadata, env, template_id, image_id, size, cpu_count, memory_mib, disk_mib, \
         timeout_sec, idle_timeout_sec, always_on, persistent, auto_start, state, vm_id, \
         created_at, origin_snapshot_id, build_id) VALUES \
         (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.id.as_str())
    .bind(record.tenant.as_str())
    .bind(record.owner.as_str())
    .bind(record.workspace_id.to_string())
    .bind(record.project_id.to_string())
    .bind(&record.external.workspace)
    .bind(&record.external.user)
    .bind(&record.external.project)
    .bind(&record.name)
    .bind(&record.slug)
    .bind(Json(&record.tags))
    .bind(Json(&record.metadata))
    .bind(Json(&record.env))
    .bind(&record.template_id)
    .bind(&record.image_id)
    .bind(&record.size)
    .bind(record.shape.vcpus)
    .bind(record.shape.memory_mib)
    .bind(record.shape.disk_mib)
    .bind(record.timeout_sec)
    .bind(record.idle_timeout_sec)
    .bind(record.always_on)
    .bind(record.persistent)
    .bind(record.auto_start)
    .bind(record.state.as_str())
    .bind(record.vm.as_str())
    .bind(record.created_at.as_microsecond())
    .bind(record.origin.as_ref().map(SnapshotId::as_str))
    .bind(record.build.as_ref().map(BuildId::as_str))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
