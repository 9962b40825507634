//! From a host name to a port of a guest, or to an answer of ours: previews,
//! and deployments, whose names lead to one port each.
//!
//! A name without a port means the app's own port, or the template's; without
//! either, the most recently exposed of [`USUAL_PORTS`]; with none
//! exposed, the first of them that something listens on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use emberbox_api::ErrorCode;
use emberbox_core::TenantId;
use emberbox_store::SandboxRecord;
use jiff::Timestamp;

use super::access::{self, Access, Presented};
use super::connection::Destination;
use super::forward::{Exchange, Forwarder, unreachable};
use super::host::{self, Meaning, PreviewName};
use super::page::{self, Reader};
use super::shown::Shown;
use crate::Failure;
use crate::control::Route;
use crate::http::request;
use crate::serve::Peer;
use crate::settings::Scheme;

/// The ports development servers use unless they are told otherwise; the
/// reference names them, in this order.
const USUAL_PORTS: [u16; 5] = [3000, 5173, 8080, 8000, 80];

/// Answers requests for previews; everything else goes on to the API.
pub(crate) async fn by_host(
    State(forwarder): State<Arc<Forwarder>>,
    request: Request,
    next: Next,
) -> Response {
    let wanted = match asked_host(&request).map(str::to_owned) {
        None => return next.run(request).await,
        Some(host) => match meant(&forwarder, &host).await {
            Ok(Wanted::Elsewhere) => return next.run(request).await,
            Ok(wanted) => Ok((wanted, host)),
            Err(failure) => Err(failure),
        },
    };
    let reader = Reader::of(request.headers());
    request::scope_as(request, request::PREVIEW.to_owned(), |request| async move {
        let answered = match wanted {
            Ok((wanted, host)) => serve(&forwarder, request, &wanted, &host).await,
            Err(failure) => Err(failure),
        };
        answered.unwrap_or_else(|failure| page::answer(failure, reader))
    })
    .await
}

/// What a host name leads to.
enum Wanted {
    /// A sandbox's preview.
    Preview(PreviewName, Owner),
    /// A deployment.
    Deployment(Route),
    /// Nothing of a sandbox's.
    Elsewhere,
}

async fn meant(forwarder: &Forwarder, host: &str) -> Result<Wanted, Failure> {
    let control = forwarder.control();
    match host::read(host, &control.settings().preview.domain) {
        Meaning::Malformed => return Err(no_preview()),
        Meaning::Preview(name) => match owner(forwarder, &name).await? {
            Owner::Nobody => {}
            owner => return Ok(Wanted::Preview(name, owner)),
        },
        Meaning::Elsewhere => {}
    }
    let route = host::normal(host).and_then(|name| control.route(&name));
    Ok(route.map_or(Wanted::Elsewhere, Wanted::Deployment))
}

/// Whose sandboxes a domain shows.
enum Owner {
    /// Everybody's.
    Platform,
    /// Only this tenant's.
    Tenant(TenantId),
    /// It is no domain of previews.
    Nobody,
}

async fn owner(forwarder: &Forwarder, name: &PreviewName) -> Result<Owner, Failure> {
    let control = forwarder.control();
    if name.domain == control.settings().preview.domain {
        return Ok(Owner::Platform);
    }
    let tenant = control
        .store()
        .tenant_of_preview_domain(&name.domain)
        .await?;
    Ok(tenant.map_or(Owner::Nobody, Owner::Tenant))
}

/// The host a request is for: the target's, which HTTP/2 always has, counts
/// before the header's (RFC 9112, 3.2.2).
fn asked_host(request: &Request) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    request.headers().get(HOST)?.to_str().ok()
}

async fn serve(
    forwarder: &Forwarder,
    request: Request,
    wanted: &Wanted,
    host: &str,
) -> Result<Response, Failure> {
    // Two hosts are two requests to two readers.
    if request.headers().get_all(HOST).iter().count() > 1 {
        return Err(Failure::new(
            ErrorCode::InvalidRequest,
            "the request names more than one host",
        ));
    }
    let host = HeaderValue::from_str(host).map_err(Failure::internal)?;
    match wanted {
        Wanted::Preview(name, owner) => serve_preview(forwarder, request, name, owner, host).await,
        Wanted::Deployment(route) => serve_deployment(forwarder, request, route, host).await,
        Wanted::Elsewhere => Err(no_preview()),
    }
}

/// A deployment is open to everybody, whatever its sandbox's previews are.
async fn serve_deployment(
    forwarder: &Forwarder,
    request: Request,
    route: &Route,
    host: HeaderValue,
) -> Result<Response, Failure> {
    let control = forwarder.control();
    let shown = control.shown_by_id(&route.tenant, &route.sandbox).await?;
    if let Some(asleep) = shown.as_ref().filter(|shown| control.wakes(&shown.sandbox)) {
        return Err(control.wake(&asleep.sandbox));
    }
    let shown = shown.filter(|shown| shown.sandbox.is_ready());
    let shown = shown.ok_or_else(|| {
        Failure::new(
            ErrorCode::DeploymentStopped,
            "the app behind this address is not running",
        )
    })?;
    let to = destination(&shown.sandbox, route.port);
    let exchange = exchange(forwarder, &request, to, host);
    forwarder.send(request, &exchange).await
}

async fn serve_preview(
    forwarder: &Forwarder,
    mut request: Request,
    name: &PreviewName,
    owner: &Owner,
    host: HeaderValue,
) -> Result<Response, Failure> {
    let shown = find(forwarder, name, owner).await?;
    let sandbox = &shown.sandbox;
    let ports = match name.port {
        Some(port) => vec![port],
        None => ports_without_name(&shown),
    };
    let scheme = scheme(forwarder, peer(&request));
    let presented = Presented::read(request.uri(), request.headers());
    let mut seen = Vec::new();
    let mut private = false;
    for port in ports {
        match access::of_port(port, &shown.previews, Timestamp::now()) {
            Access::Open => seen.push(port),
            Access::Closed => {}
            Access::Token => match opened(forwarder, sandbox, port, &presented).await? {
                Opened::Kept => seen.push(port),
                // Only what shows a page keeps cookies and follows.
                Opened::Query(token) if opens_page(&request) => {
                    return keep_token(request.uri(), &token, scheme);
                }
                Opened::Query(_) => {
                    *request.uri_mut() = bare(request.uri())?;
                    seen.push(port);
                }
                Opened::Not => private = true,
            },
        }
    }
    if !seen.is_empty() && forwarder.control().wakes(sandbox) {
        return Err(forwarder.control().wake(sandbox));
    }
    let to = match seen.as_slice() {
        [] if private => {
            return Err(Failure::new(
                ErrorCode::PreviewTokenRequired,
                "this preview is private, and no valid token came with the request",
            ));
        }
        [] => return Err(no_preview()),
        [port] => destination(sandbox, *port),
        several => first_listening(forwarder, sandbox, several).await?,
    };
    let exchange = exchange(forwarder, &request, to, host);
    forwarder.send(request, &exchange).await
}

fn exchange(
    forwarder: &Forwarder,
    request: &Request,
    to: Destination,
    host: HeaderValue,
) -> Exchange {
    let peer = peer(request);
    Exchange {
        to,
        host,
        address: peer.map(|peer| peer.address.ip()),
        scheme: scheme(forwarder, peer),
    }
}

fn peer(request: &Request) -> Option<Peer> {
    request.extensions().get::<Peer>().copied()
}

async fn find(
    forwarder: &Forwarder,
    name: &PreviewName,
    owner: &Owner,
) -> Result<Arc<Shown>, Failure> {
    let found = forwarder.control().shown_by_slug(&name.slug).await?;
    let shown = found.filter(|shown| match owner {
        Owner::Platform => true,
        Owner::Tenant(tenant) => shown.sandbox.tenant == *tenant,
        Owner::Nobody => false,
    });
    let shown = shown.ok_or_else(no_preview)?;
    if shown.sandbox.is_ready() || forwarder.control().wakes(&shown.sandbox) {
        Ok(shown)
    } else {
        Err(Failure::not_running(&shown.sandbox))
    }
}

fn ports_without_name(shown: &Shown) -> Vec<u16> {
    let now = Timestamp::now();
    let exposed = shown
        .previews
        .iter()
        .find(|record| USUAL_PORTS.contains(&record.port) && record.is_active(now))
        .map(|record| record.port);
    match shown.own_port.or(exposed) {
        Some(port) => vec![port],
        None => USUAL_PORTS.to_vec(),
    }
}

async fn first_listening(
    forwarder: &Forwarder,
    sandbox: &SandboxRecord,
    ports: &[u16],
) -> Result<Destination, Failure> {
    let mut why = no_preview();
    for port in ports {
        let to = destination(sandbox, *port);
        match forwarder.probe(&to).await {
            Ok(_connected) => return Ok(to),
            Err(error) => why = unreachable(&error),
        }
    }
    Err(why)
}

fn destination(sandbox: &SandboxRecord, port: u16) -> Destination {
    Destination {
        vm: sandbox.vm.clone(),
        port,
    }
}

/// How a private port was opened.
enum Opened {
    Not,
    /// By a header or a cookie.
    Kept,
    /// By this token in the query.
    Query(String),
}

async fn opened(
    forwarder: &Forwarder,
    sandbox: &SandboxRecord,
    port: u16,
    presented: &Presented,
) -> Result<Opened, Failure> {
    let store = forwarder.control().store();
    // A new link replaces an old cookie.
    if let Some(token) = &presented.query
        && store.opens_preview(&sandbox.id, port, token).await?
    {
        return Ok(Opened::Query(token.clone()));
    }
    for token in &presented.kept {
        if store.opens_preview(&sandbox.id, port, token).await? {
            return Ok(Opened::Kept);
        }
    }
    Ok(Opened::Not)
}

fn opens_page(request: &Request) -> bool {
    *request.method() == Method::GET && Reader::of(request.headers()) == Reader::Person
}

/// Has the browser keep the token and come back without it, so that it stands
/// in no history, log or `Referer`.
fn keep_token(uri: &Uri, token: &str, scheme: Scheme) -> Result<Response, Failure> {
    let location = HeaderValue::from_str(&access::without_token(uri)).map_err(Failure::internal)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = access::cookie(token, scheme) {
        headers.insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

fn bare(uri: &Uri) -> Result<Uri, Failure> {
    access::without_token(uri)
        .parse()
        .map_err(Failure::internal)
}

/// What the client's side speaks: what this server ended itself, or what the
/// operator says stands in front of it.
fn scheme(forwarder: &Forwarder, peer: Option<Peer>) -> Scheme {
    match peer {
        Some(peer) if peer.tls => Scheme::Https,
        Some(_) | None => forwarder.control().settings().preview.scheme,
    }
}

fn no_preview() -> Failure {
    Failure::new(
        ErrorCode::NotFound,
        "no sandbox shows anything under this address",
    )
}
