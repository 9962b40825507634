//! What each route needs of a key, and whether it counts against the limit of
//! requests.
//!
//! One table for all routes. A route that no rule names is closed to everybody;
//! a test looks for such routes in the OpenAPI document.

use axum::extract::MatchedPath;
use axum::http::Method;
use axum::http::request::Parts;
use emberbox_api::{BASE_PATH, ErrorCode};
use emberbox_core::Scope;
use emberbox_store::Caller;
use serde_json::json;

use crate::Failure;

/// What a key must be for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Valid.
    AnyKey,
    /// With this scope.
    Scope(Scope),
    /// With this scope, and bound to nothing: the route is about the whole
    /// tenant.
    WholeTenant(Scope),
}

/// Routes whose path begins with these segments, and what they need to be read
/// and to be changed. The first that fits counts.
const RULES: &[(&str, Needs, Needs)] = {
    use Needs::{AnyKey, WholeTenant};
    use Scope::{
        Admin, BillingRead, KeysWrite, SandboxesCreate, SandboxesExec, SandboxesRead,
        SandboxesWrite, TemplatesWrite, WorkspacesWrite,
    };
    const fn of(scope: Scope) -> Needs {
        Needs::Scope(scope)
    }
    &[
        // A terminal is asked for with GET and is written to all the same.
        (
            "/sandboxes/{id}/terminal/stream",
            of(SandboxesExec),
            of(SandboxesExec),
        ),
        // Asks about a file, with POST.
        (
            "/sandboxes/{id}/files/stat",
            of(SandboxesRead),
            of(SandboxesRead),
        ),
        ("/sandboxes/{id}/exec", of(SandboxesRead), of(SandboxesExec)),
        (
            "/sandboxes/{id}/files",
            of(SandboxesRead),
            of(SandboxesExec),
        ),
        (
            "/sandboxes/{id}/exports",
            of(SandboxesRead),
            of(SandboxesExec),
        ),
        (
            "/sandboxes/{id}/processes",
            of(SandboxesRead),
            of(SandboxesExec),
        ),
        (
            "/sandboxes/{id}/commands",
            of(SandboxesRead),
            of(SandboxesExec),
        ),
        ("/sandboxes/{id}/code", of(SandboxesRead), of(SandboxesExec)),
        (
            "/sandboxes/{id}/terminal",
            of(SandboxesRead),
            of(SandboxesExec),
        ),
        ("/sandboxes/{id}", of(SandboxesRead), of(SandboxesWrite)),
        // Makes one and runs a command in it.
        ("/sandboxes/run", of(SandboxesRead), of(SandboxesWrite)),
        ("/sandboxes", of(SandboxesRead), of(SandboxesCreate)),
        ("/bulk/sandboxes", of(SandboxesRead), of(SandboxesWrite)),
        ("/deployments", of(SandboxesRead), of(SandboxesWrite)),
        (
            "/snapshots",
            WholeTenant(SandboxesRead),
            WholeTenant(SandboxesWrite),
        ),
        (
            "/named-snapshots",
            WholeTenant(SandboxesRead),
            WholeTenant(SandboxesWrite),
        ),
        (
            "/events",
            WholeTenant(SandboxesRead),
            WholeTenant(SandboxesWrite),
        ),
        ("/sandbox-templates/validate", AnyKey, AnyKey),
        ("/sandbox-templates", AnyKey, WholeTenant(TemplatesWrite)),
        (
            "/sandbox-template-builds",
            AnyKey,
            WholeTenant(TemplatesWrite),
        ),
        ("/templates", AnyKey, AnyKey),
        (
            "/preview-domain",
            of(SandboxesRead),
            WholeTenant(WorkspacesWrite),
        ),
        ("/workspaces", of(SandboxesRead), of(WorkspacesWrite)),
        ("/projects", of(SandboxesRead), of(WorkspacesWrite)),
        ("/usage", of(BillingRead), of(BillingRead)),
        ("/credits", WholeTenant(BillingRead), WholeTenant(Admin)),
        ("/api-keys", of(KeysWrite), of(KeysWrite)),
        ("/tokens", of(KeysWrite), of(KeysWrite)),
        ("/auth/sse-ticket", AnyKey, AnyKey),
        ("/sse/ticket", AnyKey, AnyKey),
        ("/whoami", AnyKey, AnyKey),
        ("/admin", WholeTenant(Admin), WholeTenant(Admin)),
    ]
};

/// What a route needs; `None` if that was never decided.
pub(super) fn needs(method: &Method, route: &str) -> Option<Needs> {
    let route = route.strip_prefix(BASE_PATH).unwrap_or(route);
    let fits = |prefix: &str| {
        let rest = route.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let (_, read, change) = RULES.iter().find(|(prefix, ..)| fits(prefix))?;
    Some(if *method == Method::GET {
        *read
    } else {
        *change
    })
}

/// Whether a request counts against its workspace's limit. Clients that wait
/// ask for a sandbox's readiness a hundred times a second, and open streams
/// again when they break (`client-contract.md`, section 4.2).
pub(super) fn is_counted(method: &Method, route: &str) -> bool {
    let last = route.rsplit('/').next();
    let free = last.is_some_and(|last| ["readiness", "stream", "events", "watch"].contains(&last));
    !(*method == Method::GET && free)
}

/// Lets a caller through whose key is good for the route.
pub(super) fn check(caller: &Caller, parts: &Parts) -> Result<(), Failure> {
    if caller.suspended_at.is_some() {
        let message = "the tenant is suspended";
        return Err(Failure::new(ErrorCode::TenantSuspended, message));
    }
    let route = parts.extensions.get::<MatchedPath>();
    let needs = route.and_then(|route| needs(&parts.method, route.as_str()));
    let (scope, whole) = match needs {
        Some(Needs::AnyKey) => return Ok(()),
        Some(Needs::Scope(scope)) => (scope, false),
        Some(Needs::WholeTenant(scope)) => (scope, true),
        None => return Err(Failure::internal("no rule says what the route needs")),
    };
    if !caller.scopes.allow(scope) {
        let message = format!("the key lacks the scope {scope}");
        let failure = Failure::new(ErrorCode::InsufficientScope, message);
        return Err(failure.with_details(json!({ "scope": scope.as_str() })));
    }
    if whole && !caller.bounds.are_open() {
        let message = "this is about the whole tenant, and the key is bound to a part of it";
        return Err(Failure::new(ErrorCode::Forbidden, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
