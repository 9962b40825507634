//! Many sandboxes asked for at once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use emberbox_api::{
    Batch, BatchItem, BatchItemError, BatchSize, BatchStatus, CreateBatch, CreateSandbox, Data,
    ErrorCode, ErrorResponse, FieldError, Time,
};
use emberbox_core::{BatchId, Limits};
use emberbox_store::{BatchItemState, BatchRecord, Caller, NewBatch};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

use super::auth::{Auth, PathText, StreamAuth};
use super::json::{QueryString, fields};
use super::once::{IdempotencyKey, Keyed};
use super::sandboxes::parse;
use super::sse;
use super::usage::limit;
use crate::Failure;
use crate::control::Control;

/// How many sandboxes are made at a time unless told otherwise, and at most:
/// more only wait for the machine's processors.
const CONCURRENCY: i64 = 4;
const CONCURRENCY_MAX: i64 = 16;

/// Items of one answer unless told otherwise (`client-contract.md`), and at
/// most.
const ITEMS: u32 = 100;
const ITEMS_MAX: u32 = 10_000;

/// Make many sandboxes alike
#[utoipa::path(post, path = "/sandboxes/batch", tag = "sandboxes",
    params(IdempotencyKey), request_body = CreateBatch,
    responses((status = 202, body = Data<Batch>), (status = 400, body = ErrorResponse),
        (status = 402, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    Keyed { body, once }: Keyed<Map<String, Value>>,
) -> Result<Response, Failure> {
    let limits = &control.limits(&caller);
    let create: CreateSandbox = fields(&body)?;
    let (count, concurrency) = size(&fields(&body)?, limits)?;
    if create.slug.is_some() {
        let message = "belongs to one sandbox; leave it out";
        return Err(Failure::invalid_field("slug", message));
    }
    let template = create.template_id.as_deref();
    let bootable = control.bootable(&caller.tenant, template).await?;
    let new = NewBatch {
        request: parse::create(create, bootable, limits)?,
        count,
        concurrency,
    };
    let (tenant, making) = (caller.tenant.clone(), Arc::clone(&control));
    once.answer(&control, &tenant, async move |before| {
        let id = match before.made {
            Some(id) => parse_id(&id)?,
            None => {
                let made = making.create_batch(caller.clone(), new, before.once);
                made.await?
            }
        };
        let data = read(&making, &caller, &id).await?;
        Ok((StatusCode::ACCEPTED, Json(Data { data })))
    })
    .await
}

/// How a batch stands
#[utoipa::path(get, path = "/sandboxes/batches/{id}", tag = "sandboxes",
    params(("id" = String, Path, description = "Batch id")),
    responses((status = 200, body = Data<Batch>), (status = 404, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Batch>>, Failure> {
    let data = read(&control, &caller, &parse_id(&id)?).await?;
    Ok(Json(Data { data }))
}

/// How a batch's items may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ItemsQuery {
    /// Most items; 100 when absent, at most 10000.
    limit: Option<String>,
}

/// What became of each of a batch's sandboxes
#[utoipa::path(get, path = "/sandboxes/batches/{id}/items", tag = "sandboxes",
    params(("id" = String, Path, description = "Batch id"), ItemsQuery),
    responses((status = 200, body = Data<Vec<BatchItem>>), (status = 404, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn items(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
    QueryString(query): QueryString<ItemsQuery>,
) -> Result<Json<Data<Vec<BatchItem>>>, Failure> {
    let limit = limit(query.limit.as_deref(), ITEMS, ITEMS_MAX)?;
    let id = parse_id(&id)?;
    read(&control, &caller, &id).await?;
    let items = control.store().batch_items(&id, limit).await?;
    let data = items.into_iter().map(|item| BatchItem {
        position: item.position,
        status: item.state.as_str().to_owned(),
        sandbox_id: item.sandbox,
        error: item
            .error
            .map(|(code, message)| BatchItemError { code, message }),
        updated_at: Time(item.updated_at),
    });
    let data = data.collect();
    Ok(Json(Data { data }))
}

/// Make no more of a batch's sandboxes; those that were begun stay
#[utoipa::path(post, path = "/sandboxes/batches/{id}/cancel", tag = "sandboxes",
    params(("id" = String, Path, description = "Batch id")),
    responses((status = 200, body = Data<Batch>), (status = 404, body = ErrorResponse)))]
pub(super) async fn cancel(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(id): PathText,
) -> Result<Json<Data<Batch>>, Failure> {
    let id = parse_id(&id)?;
    read(&control, &caller, &id).await?;
    if !control.cancel_batch(&caller, &id).await? {
        return Err(not_found());
    }
    let data = read(&control, &caller, &id).await?;
    Ok(Json(Data { data }))
}

/// Follow a batch until nothing is left to do
#[utoipa::path(get, path = "/sandboxes/batches/{id}/events", tag = "sandboxes",
    params(("id" = String, Path, description = "Batch id"),
        ("ticket" = Option<String>, Query, description = "In place of the key, see `/auth/sse-ticket`")),
    responses((status = 200, content_type = "text/event-stream",
            description = "`batch_progress`, at last `batch_settled`; each the batch as it is"),
        (status = 404, body = ErrorResponse)))]
pub(super) async fn events(
    State(control): State<Arc<Control>>,
    StreamAuth(caller): StreamAuth,
    PathText(id): PathText,
) -> Result<Response, Failure> {
    let id = parse_id(&id)?;
    let following = Following {
        changes: control.batch_changes(),
        told: None,
        over: false,
        caller: caller.clone(),
        control: Arc::clone(&control),
        id,
    };
    read(&control, &caller, &following.id).await?;
    Ok(sse::respond(&control, caller, follow(following)))
}

struct Following {
    control: Arc<Control>,
    changes: Receiver<BatchId>,
    caller: Caller,
    id: BatchId,
    told: Option<Batch>,
    over: bool,
}

fn follow(following: Following) -> impl Stream<Item = Event> {
    stream::unfold(following, async |mut following| {
        if following.over {
            return None;
        }
        loop {
            let now = read(&following.control, &following.caller, &following.id).await;
            let now = match now {
                Ok(now) => now,
                Err(failure) => {
                    following.over = true;
                    return Some((sse::error(&failure), following));
                }
            };
            if following.told.as_ref() != Some(&now) {
                following.over = now.settled_at.is_some();
                let name = if following.over {
                    "batch_settled"
                } else {
                    "batch_progress"
                };
                let event = sse::event(name, &now);
                following.told = Some(now);
                return Some((event, following));
            }
            following.changed().await;
        }
    })
}

impl Following {
    /// Resolves when the batch changed, or may have.
    async fn changed(&mut self) {
        loop {
            match self.changes.recv().await {
                Ok(changed) if changed != self.id => {}
                // Control owns the sender, and this holds control.
                Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => return,
            }
        }
    }
}

async fn read(control: &Control, caller: &Caller, id: &BatchId) -> Result<Batch, Failure> {
    let record = control.store().batch(&caller.tenant, id).await?;
    // Its sandboxes are where its key sees.
    let seen = |record: &BatchRecord| caller.bounds.are_open() || record.bounds == caller.bounds;
    let record = record.filter(seen);
    record.map(show).ok_or_else(not_found)
}

fn size(size: &BatchSize, limits: &Limits) -> Result<(u32, u32), Failure> {
    let mut errors = Vec::new();
    let mut number = |field: &str, value: Option<i64>, most: i64| {
        let legal = value.filter(|value| (1..=most).contains(value));
        let legal = legal.and_then(|value| u32::try_from(value).ok());
        if legal.is_none() {
            let message = format!("must be between 1 and {most}");
            errors.push(FieldError::new(field, message));
        }
        legal.unwrap_or(1)
    };
    let count = number("count", size.count, limits.max_sandboxes.into());
    let concurrency = size.concurrency.unwrap_or(CONCURRENCY);
    let concurrency = number("concurrency", Some(concurrency), CONCURRENCY_MAX);
    if errors.is_empty() {
        Ok((count, concurrency))
    } else {
        Err(Failure::invalid(&errors))
    }
}

fn show(record: BatchRecord) -> Batch {
    let count = |state| record.count(state);
    let completed = count(BatchItemState::Completed);
    let failed = count(BatchItemState::Failed);
    let status = if record.settled_at.is_none() {
        BatchStatus::Running
    } else if record.cancelled_at.is_some() {
        BatchStatus::Cancelled
    } else if failed == 0 {
        BatchStatus::Completed
    } else if completed == 0 {
        BatchStatus::Failed
    } else {
        BatchStatus::Partial
    };
    Batch {
        status,
        requested_count: record.counts.iter().sum(),
        concurrency: record.concurrency,
        queued_count: count(BatchItemState::Queued),
        creating_count: count(BatchItemState::Creating),
        completed_count: completed,
        failed_count: failed,
        cancelled_count: count(BatchItemState::Cancelled),
        created_at: Time(record.created_at),
        cancelled_at: record.cancelled_at.map(Time),
        settled_at: record.settled_at.map(Time),
        id: record.id,
    }
}

/// What is no identifier names nothing, like one that nobody has.
fn parse_id(text: &str) -> Result<BatchId, Failure> {
    text.parse().map_err(|_| not_found())
}

fn not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "batch not found")
}
