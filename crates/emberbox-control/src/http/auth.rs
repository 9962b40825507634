//! Whom a request speaks for, and what it may see.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, OriginalUri, Query, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use emberbox_api::ErrorCode;
use emberbox_store::{Caller, SandboxRecord};
use serde::Deserialize;
use uuid::Uuid;

use super::access;
use crate::Failure;
use crate::control::Control;

/// An authenticated caller.
pub(super) struct Auth(pub(super) Caller);

/// The sandbox in the path, which is the caller's own.
pub(super) struct Target {
    pub(super) caller: Caller,
    pub(super) record: SandboxRecord,
}

/// A [`Target`] whose caller may also show a ticket (`?ticket=`): a browser's
/// `EventSource` sends no header.
pub(super) struct StreamTarget(pub(super) Target);

/// An authenticated caller, who may also show a ticket.
pub(super) struct StreamAuth(pub(super) Caller);

/// The first parameter of the path, decoded.
pub(super) struct PathText(pub(super) String);

/// The second parameter of the path, decoded.
pub(super) struct SecondPathText(pub(super) String);

impl FromRequestParts<Arc<Control>> for Auth {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let caller = by_key(parts, control).await?;
        count(control, &caller, caller.home, parts)?;
        Ok(Self(caller))
    }
}

/// Whom the key of a request speaks for, if it is good for the route. What that
/// sees is left in `parts` for who reads the body.
async fn by_key(parts: &mut Parts, control: &Control) -> Result<Caller, Failure> {
    let secret = bearer(parts)
        .ok_or_else(|| unauthorized("missing API key; send Authorization: Bearer <key>"))?;
    let caller = control.store().authenticate(secret).await?;
    let caller = caller.ok_or_else(|| unauthorized("unknown, expired or revoked API key"))?;
    access::check(&caller, parts)?;
    parts.extensions.insert(caller.bounds.clone());
    Ok(caller)
}

/// Counts a request: of the workspace of the sandbox in its path, else of the
/// one its key is bound to, else of the tenant's default one.
fn count(
    control: &Control,
    caller: &Caller,
    workspace: Uuid,
    parts: &Parts,
) -> Result<(), Failure> {
    let route = parts.extensions.get::<MatchedPath>();
    if route.is_none_or(|route| access::is_counted(&parts.method, route.as_str())) {
        control.count(caller, workspace)?;
    }
    Ok(())
}

impl FromRequestParts<Arc<Control>> for Target {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let caller = by_key(parts, control).await?;
        Self::of(caller, parts, control).await
    }
}

impl Target {
    /// The sandbox in the path as `caller` sees it.
    pub(super) async fn of(
        caller: Caller,
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let PathText(id) = PathText::from_request_parts(parts, control).await?;
        let found = match id.parse() {
            Ok(id) => control.store().sandbox(&caller.tenant, &id).await?,
            // What is no identifier names nothing, like one that nobody has.
            Err(_) => None,
        };
        let found = found.filter(|record| record.is_within(&caller.bounds));
        let workspace = found
            .as_ref()
            .map_or(caller.home, |record| record.workspace_id);
        count(control, &caller, workspace, parts)?;
        let mut record = found.ok_or_else(Failure::sandbox_not_found)?;
        let route = parts.extensions.get::<MatchedPath>();
        if route.is_some_and(|route| works_in_guest(route.as_str())) {
            record = control.awake(record).await?;
        }
        Ok(Self { caller, record })
    }
}

/// What a sandbox has to be running for, and what counts as using it.
const IN_GUEST: [&str; 9] = [
    "exec",
    "files",
    "processes",
    "terminal",
    "template",
    "expose",
    "code",
    "commands",
    "exports",
];

fn works_in_guest(route: &str) -> bool {
    let rest = route.split_once("/sandboxes/{id}/").map(|(_, rest)| rest);
    let first = rest.and_then(|rest| rest.split('/').next());
    first.is_some_and(|first| IN_GUEST.contains(&first))
}

impl FromRequestParts<Arc<Control>> for StreamTarget {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let caller = by_key_or_ticket(parts, control).await?;
        Target::of(caller, parts, control).await.map(Self)
    }
}

impl FromRequestParts<Arc<Control>> for StreamAuth {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let caller = by_key_or_ticket(parts, control).await?;
        count(control, &caller, caller.home, parts)?;
        Ok(Self(caller))
    }
}

async fn by_key_or_ticket(parts: &mut Parts, control: &Arc<Control>) -> Result<Caller, Failure> {
    let ticket = Query::<Ticket>::try_from_uri(&parts.uri)
        .ok()
        .and_then(|Query(query)| query.ticket);
    let Some(ticket) = ticket.filter(|_| bearer(parts).is_none()) else {
        // A header wins: it cannot be used up.
        return by_key(parts, control).await;
    };
    let OriginalUri(uri) = OriginalUri::from_request_parts(parts, control)
        .await
        .unwrap_or_else(|never| match never {});
    let caller = control.store().redeem_ticket(&ticket, uri.path()).await?;
    let caller = caller
        .ok_or_else(|| unauthorized("unknown, used or expired ticket, or one for another path"))?;
    access::check(&caller, parts)?;
    Ok(caller)
}

#[derive(Deserialize)]
struct Ticket {
    ticket: Option<String>,
}

impl FromRequestParts<Arc<Control>> for PathText {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        path_text(parts, control, 0).await.map(Self)
    }
}

impl FromRequestParts<Arc<Control>> for SecondPathText {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        path_text(parts, control, 1).await.map(Self)
    }
}

/// The parameter of the path at this place, decoded.
pub(super) async fn path_text(
    parts: &mut Parts,
    control: &Arc<Control>,
    place: usize,
) -> Result<String, Failure> {
    let params = RawPathParams::from_request_parts(parts, control).await;
    let params =
        params.map_err(|_| Failure::new(ErrorCode::InvalidPath, "the URL must be UTF-8"))?;
    let param = params.iter().nth(place);
    let (_, text) = param.ok_or_else(|| Failure::internal("the route has no such parameter"))?;
    Ok(text.to_owned())
}

/// The key a request shows.
pub(super) fn bearer(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = header.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}

pub(super) fn unauthorized(message: &str) -> Failure {
    Failure::new(ErrorCode::Unauthorized, message)
}
