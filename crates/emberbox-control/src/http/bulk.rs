//! One operation on many sandboxes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{BulkFailure, BulkFilter, BulkOutcome, BulkSandboxes, Data, ErrorResponse};
use emberbox_store::Caller;
use futures_util::stream::{self, StreamExt};

use super::auth::Auth;
use super::json::JsonBody;
use super::sandboxes::{ListQuery, filter};
use crate::Failure;
use crate::control::Control;
use crate::serve::Patience;

/// Most ids of one request.
const IDS_MAX: usize = 200;

/// How many are worked on at a time: each writes or reads a memory.
const AT_A_TIME: usize = 4;

/// Pause many sandboxes, each for itself
#[utoipa::path(post, path = "/bulk/sandboxes/pause", tag = "sandboxes",
    request_body = BulkSandboxes,
    responses((status = 200, body = Data<BulkOutcome>), (status = 422, body = ErrorResponse)))]
pub(super) async fn pause(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    patience: Patience,
    JsonBody(body): JsonBody<BulkSandboxes>,
) -> Result<Json<Data<BulkOutcome>>, Failure> {
    let work = on_each(control, caller, body, Operation::Pause);
    patience.with(work).await
}

/// Resume many sandboxes, each for itself
#[utoipa::path(post, path = "/bulk/sandboxes/resume", tag = "sandboxes",
    request_body = BulkSandboxes,
    responses((status = 200, body = Data<BulkOutcome>), (status = 422, body = ErrorResponse)))]
pub(super) async fn resume(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    patience: Patience,
    JsonBody(body): JsonBody<BulkSandboxes>,
) -> Result<Json<Data<BulkOutcome>>, Failure> {
    let work = on_each(control, caller, body, Operation::Resume);
    patience.with(work).await
}

/// Destroy many sandboxes, each for itself
#[utoipa::path(post, path = "/bulk/sandboxes/destroy", tag = "sandboxes",
    request_body = BulkSandboxes,
    responses((status = 200, body = Data<BulkOutcome>), (status = 422, body = ErrorResponse)))]
pub(super) async fn destroy(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    patience: Patience,
    JsonBody(body): JsonBody<BulkSandboxes>,
) -> Result<Json<Data<BulkOutcome>>, Failure> {
    let work = on_each(control, caller, body, Operation::Destroy);
    patience.with(work).await
}

/// What is done.
#[derive(Clone, Copy)]
enum Operation {
    Pause,
    Resume,
    Destroy,
}

async fn on_each(
    control: Arc<Control>,
    caller: Caller,
    body: BulkSandboxes,
    operation: Operation,
) -> Result<Json<Data<BulkOutcome>>, Failure> {
    let ids = meant(&control, &caller, body).await?;
    let done: Vec<_> = stream::iter(ids)
        .map(|id| on_one(Arc::clone(&control), caller.clone(), operation, id))
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let mut data = BulkOutcome::default();
    for (id, done) in done {
        note(&mut data, id, done);
    }
    Ok(Json(Data { data }))
}

async fn on_one(
    control: Arc<Control>,
    caller: Caller,
    operation: Operation,
    text: String,
) -> (String, Result<(), Failure>) {
    let done = do_one(&control, caller, operation, &text).await;
    (text, done)
}

async fn do_one(
    control: &Arc<Control>,
    caller: Caller,
    operation: Operation,
    text: &str,
) -> Result<(), Failure> {
    // What is no identifier names nothing, like one that nobody has.
    let id = text.parse().map_err(|_| Failure::sandbox_not_found())?;
    let found = control.store().sandbox(&caller.tenant, &id).await?;
    let seen = found.filter(|record| record.is_within(&caller.bounds));
    seen.ok_or_else(Failure::sandbox_not_found)?;
    let done = match operation {
        Operation::Pause => control.pause(caller.tenant, id).await,
        Operation::Resume => control.resume(caller.tenant, id).await,
        Operation::Destroy => control.destroy(caller, id).await,
    };
    done.map(drop)
}

/// The sandboxes a request is about.
async fn meant(
    control: &Control,
    caller: &Caller,
    body: BulkSandboxes,
) -> Result<Vec<String>, Failure> {
    match (body.ids, body.filter) {
        (Some(ids), None) => check_ids(ids),
        (None, Some(wanted)) => {
            if wanted == BulkFilter::default() {
                let message = "must say something; an empty one would be everything";
                return Err(Failure::invalid_field("filter", message));
            }
            let mut filter = filter::parse(ListQuery::of(wanted))?;
            filter.bounds = caller.bounds.clone();
            let found = control
                .store()
                .list_sandboxes(&caller.tenant, &filter)
                .await?;
            // What is gone has nothing left to do.
            let live = found
                .into_iter()
                .filter(|found| found.destroyed_at.is_none());
            Ok(live.map(|found| found.id.to_string()).collect())
        }
        (Some(_), Some(_)) | (None, None) => {
            Err(Failure::invalid_field("ids", "or filter, one of them"))
        }
    }
}

/// At least one and not too many, each once.
pub(super) fn check_ids(mut ids: Vec<String>) -> Result<Vec<String>, Failure> {
    if ids.is_empty() || ids.len() > IDS_MAX {
        let message = format!("must be 1 to {IDS_MAX}");
        return Err(Failure::invalid_field("ids", message));
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    Ok(ids)
}

/// Notes what became of one.
pub(super) fn note(outcome: &mut BulkOutcome, id: String, done: Result<(), Failure>) {
    match done {
        Ok(()) => outcome.succeeded.push(id),
        Err(failure) => outcome.failed.push(BulkFailure {
            id,
            code: failure.code().as_str().to_owned(),
            message: failure.message,
        }),
    }
}
