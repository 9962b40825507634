//! Accounts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use emberbox_api::credit::decimal;
use emberbox_api::{
    ChangeCredits, CreditEntry, Credits, Data, ErrorCode, ErrorResponse, FieldError, PriceList,
    Time,
};
use emberbox_store::{CreditChange, CreditError};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::{Auth, PathText};
use super::json::{JsonBody, QueryString};
use super::usage::limit;
use crate::Failure;
use crate::control::Control;

/// Entries of one answer unless told otherwise.
const ENTRIES: u32 = 20;

/// Most entries of one answer: some hundred kilobytes.
const ENTRIES_MAX: u32 = 1000;

/// Most that one change may move: a billion credits. Ten thousand of them fit
/// a balance.
const AMOUNT_MAX: i64 = 1_000_000_000 * emberbox_core::billing::MICRO;

/// Longest note in bytes; it is for a line of an account.
const NOTE_MAX: usize = 512;

/// How `GET /credits` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CreditsQuery {
    /// Most entries; 20 when absent, at most 1000.
    limit: Option<String>,
}

/// This tenant's account
#[utoipa::path(get, path = "/credits", tag = "usage", params(CreditsQuery),
    responses((status = 200, body = Data<Credits>), (status = 422, body = ErrorResponse)))]
pub(super) async fn get(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    QueryString(query): QueryString<CreditsQuery>,
) -> Result<Json<Data<Credits>>, Failure> {
    let limit = limit(query.limit.as_deref(), ENTRIES, ENTRIES_MAX)?;
    let store = control.store();
    let terms = store.billing_terms().await?;
    let balance_micro = store.credit_balance(&caller.tenant).await?;
    let entries = store.credit_entries(&caller.tenant, limit).await?;
    let data = Credits {
        balance_micro,
        balance: decimal(balance_micro),
        enforced: terms.enforce,
        minimum_balance_micro: terms.minimum_balance,
        prices: PriceList {
            vcpu_hour_micro: terms.prices.vcpu_hour,
            memory_gib_hour_micro: terms.prices.memory_gib_hour,
            disk_gib_hour_micro: terms.prices.disk_gib_hour,
            egress_gib_micro: terms.prices.egress_gib,
        },
        entries: entries.into_iter().map(show).collect(),
    };
    Ok(Json(Data { data }))
}

/// Grant a tenant credit, or put its account right; for operators
#[utoipa::path(post, path = "/admin/tenants/{id}/credits", tag = "admin",
    params(("id" = String, Path, description = "Tenant id")), request_body = ChangeCredits,
    responses((status = 201, body = Data<CreditEntry>), (status = 403, body = ErrorResponse),
        (status = 404, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn change(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    PathText(tenant): PathText,
    JsonBody(body): JsonBody<ChangeCredits>,
) -> Result<(StatusCode, Json<Data<CreditEntry>>), Failure> {
    let change = parse(&body)?;
    // What is no identifier names nothing, like one that nobody has.
    let tenant = tenant.parse().map_err(|_| tenant_not_found())?;
    let store = control.store();
    let entry = store
        .change_credit(&tenant, change, body.note.as_deref(), &caller.key)
        .await?;
    Ok((StatusCode::CREATED, Json(Data { data: show(entry) })))
}

fn parse(body: &ChangeCredits) -> Result<CreditChange, Failure> {
    let mut errors = Vec::new();
    let amount = body.amount_micro;
    let change = match body.kind.as_deref() {
        None | Some("grant") => {
            if !(1..=AMOUNT_MAX).contains(&amount) {
                let message = format!("must be between 1 and {AMOUNT_MAX}");
                errors.push(FieldError::new("amount_micro", message));
            }
            CreditChange::Grant(amount)
        }
        Some("adjustment") => {
            if amount == 0 || !(-AMOUNT_MAX..=AMOUNT_MAX).contains(&amount) {
                let message = format!("must be between -{AMOUNT_MAX} and {AMOUNT_MAX}, and not 0");
                errors.push(FieldError::new("amount_micro", message));
            }
            CreditChange::Adjust(amount)
        }
        Some(_) => {
            errors.push(FieldError::new("kind", "must be grant or adjustment"));
            CreditChange::Adjust(amount)
        }
    };
    if body.note.as_ref().is_some_and(|note| note.len() > NOTE_MAX) {
        let message = format!("must be at most {NOTE_MAX} bytes");
        errors.push(FieldError::new("note", message));
    }
    if errors.is_empty() {
        Ok(change)
    } else {
        Err(Failure::invalid(&errors))
    }
}

fn show(entry: emberbox_store::CreditEntry) -> CreditEntry {
    CreditEntry {
        id: entry.id,
        kind: entry.kind.as_str().to_owned(),
        amount_micro: entry.amount_micro,
        balance_micro: entry.balance_micro,
        sandbox_id: entry.sandbox,
        note: entry.note,
        created_at: Time(entry.at),
    }
}

fn tenant_not_found() -> Failure {
    Failure::new(ErrorCode::NotFound, "tenant not found")
}

impl From<CreditError> for Failure {
    fn from(error: CreditError) -> Self {
        match error {
            CreditError::NoTenant => tenant_not_found(),
            CreditError::TooMuch => {
                Self::invalid_field("amount_micro", "takes the balance out of its range")
            }
            CreditError::Store(error) => error.into(),
        }
    }
}
