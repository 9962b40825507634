//! Terminals of a sandbox.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use axum::{Extension, Json};
use emberbox_api::{BASE_PATH, ErrorCode, ErrorResponse, FieldError, OpenTerminal, Terminal, Time};
use emberbox_core::SandboxId;
use emberbox_guest::terminal::SIDE_MAX;
use emberbox_guest::{TerminalSize, TerminalSpec};
use emberbox_store::{Caller, SandboxRecord};
use serde::Deserialize;
use utoipa::IntoParams;

use super::access;
use super::auth::{PathText, Target, bearer, path_text, unauthorized};
use super::exec::{check_command, check_env, directory};
use super::json::JsonBody;
use crate::Failure;
use crate::control::Control;
use crate::serve::Peer;

mod socket;

use socket::Socket;

/// The terminal in the path.
pub(super) struct Session(u64);

impl FromRequestParts<Arc<Control>> for Session {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        session(&path_text(parts, control, 1).await?).map(Self)
    }
}

/// Open a terminal, for a WebSocket to look at
#[utoipa::path(post, path = "/sandboxes/{id}/terminal", tag = "terminal",
    params(("id" = String, Path, description = "Sandbox id")), request_body = OpenTerminal,
    responses((status = 201, body = Terminal), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn open(
    State(control): State<Arc<Control>>,
    target: Target,
    headers: HeaderMap,
    uri: Uri,
    peer: Option<Extension<Peer>>,
    JsonBody(body): JsonBody<OpenTerminal>,
) -> Result<(StatusCode, Json<Terminal>), Failure> {
    let spec = parse(body)?;
    let session_id = format!("{:016x}", spec.id);
    let record = target.record;
    control.guest(&record)?.open_terminal(spec).await?;
    let key = control.terminal_key();
    let (stream_auth, expires) = key.sign(&record.id, &target.caller, &session_id);
    let terminal = Terminal {
        session_id,
        ws_url: ws_url(&headers, &uri, peer.map(|Extension(peer)| peer), &record.id),
        stream_auth,
        stream_auth_expires_at: Time(expires),
    };
    Ok((StatusCode::CREATED, Json(terminal)))
}

/// End a terminal and everything in its session
#[utoipa::path(delete, path = "/sandboxes/{id}/terminal/{session_id}", tag = "terminal",
    params(("id" = String, Path, description = "Sandbox id"),
        ("session_id" = String, Path, description = "Terminal")),
    responses((status = 204), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse)))]
pub(super) async fn close(
    State(control): State<Arc<Control>>,
    target: Target,
    Session(id): Session,
) -> Result<StatusCode, Failure> {
    control.guest(&target.record)?.close_terminal(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How the socket may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// The terminal; without it a new one is opened, which ends with the
    /// socket (only with a key).
    session_id: Option<String>,
    /// The terminal's `stream_auth`, in place of a key.
    token: Option<String>,
    /// Width of who looks.
    cols: Option<String>,
    /// Height of who looks.
    rows: Option<String>,
}

/// Who may look at which terminal.
pub(super) struct Admitted {
    caller: Caller,
    record: SandboxRecord,
    session: Option<u64>,
    size: Option<TerminalSize>,
}

impl FromRequestParts<Arc<Control>> for Admitted {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Failure> {
        let query = Query::<StreamQuery>::try_from_uri(&parts.uri);
        let Query(query) =
            query.map_err(|error| Failure::invalid_field("query", error.body_text()))?;
        let (target, session_id) = match query.token {
            // A key wins: it does not expire within minutes.
            Some(token) if bearer(parts).is_none() => {
                let refused = || unauthorized("the token is expired, or for another terminal");
                let claims = control.terminal_key().verify(&token).ok_or_else(refused)?;
                let PathText(id) = PathText::from_request_parts(parts, control).await?;
                let other = query.session_id.is_some_and(|id| id != claims.session);
                if id != claims.sandbox.as_str() || other {
                    return Err(refused());
                }
                let caller = control.store().caller(&claims.key, claims.generation);
                let caller = caller.await?.ok_or_else(refused)?;
                access::check(&caller, parts)?;
                let target = Target::of(caller, parts, control).await?;
                (target, Some(claims.session))
            }
            Some(_) | None => {
                let target = Target::from_request_parts(parts, control).await?;
                (target, query.session_id)
            }
        };
        let Target { caller, record } = target;
        Ok(Self {
            caller,
            record,
            session: session_id.as_deref().map(session).transpose()?,
            size: size_of_viewer(query.cols.as_deref(), query.rows.as_deref())?,
        })
    }
}

/// Look at a terminal: binary frames are input and output, text frames from
/// the client are `{"type":"resize","cols","rows"}`
#[utoipa::path(get, path = "/sandboxes/{id}/terminal/stream", tag = "terminal",
    params(("id" = String, Path, description = "Sandbox id"), StreamQuery),
    responses((status = 101, description = "A WebSocket; closed with 1000 and the exit code when \
            the shell ends, 1008 when the key it was opened with \
            stops working, 1009 after a message over 256 KiB, 4001 when somebody else looks"),
        (status = 401, body = ErrorResponse), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn stream(
    State(control): State<Arc<Control>>,
    admitted: Admitted,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade = upgrade.map_err(|refused| {
        Failure::invalid_field("upgrade", format!("no WebSocket: {}", refused.body_text()))
    })?;
    let guest = control.guest(&admitted.record)?;
    let (id, own) = match admitted.session {
        Some(id) => (id, None),
        None => {
            let spec = parse(OpenTerminal::default())?;
            let id = spec.id;
            guest.open_terminal(spec).await?;
            (id, Some(id))
        }
    };
    let (input, output) = guest.attach_terminal(id, admitted.size).await?;
    let socket = Socket {
        caller: admitted.caller,
        in_use: control.using(&admitted.record.id),
        control,
        guest,
        input,
        output,
        own,
    };
    let upgrade = upgrade
        .max_message_size(socket::MESSAGE_MAX)
        .max_frame_size(socket::MESSAGE_MAX);
    Ok(upgrade.on_upgrade(|stream| socket.run(stream)))
}

fn session(text: &str) -> Result<u64, Failure> {
    let id = (text.len() == 16)
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten();
    // What is no name names nothing, like one that nobody has.
    id.ok_or_else(|| Failure::new(ErrorCode::TerminalNotFound, "no such terminal"))
}

/// Both sides or neither; a missing one is the default's.
fn size_of_viewer(cols: Option<&str>, rows: Option<&str>) -> Result<Option<TerminalSize>, Failure> {
    if cols.is_none() && rows.is_none() {
        return Ok(None);
    }
    // What is no number is out of its bounds.
    let number = |text: Option<&str>| text.map(|text| text.parse().unwrap_or(0));
    let mut errors = Vec::new();
    let size = check_size(number(cols), number(rows), &mut errors);
    if errors.is_empty() {
        Ok(Some(size))
    } else {
        Err(Failure::invalid(&errors))
    }
}

fn check_size(cols: Option<i64>, rows: Option<i64>, errors: &mut Vec<FieldError>) -> TerminalSize {
    let mut side = |field: &str, given: Option<i64>, default: u16| match given {
        None => default,
        Some(given) => match u16::try_from(given) {
            Ok(side) if (1..=SIDE_MAX).contains(&side) => side,
            Ok(_) | Err(_) => {
                let message = format!("must be between 1 and {SIDE_MAX}");
                errors.push(FieldError::new(field, message));
                default
            }
        },
    };
    let TerminalSize {
        cols: default_cols,
        rows: default_rows,
    } = TerminalSize::default();
    TerminalSize {
        cols: side("cols", cols, default_cols),
        rows: side("rows", rows, default_rows),
    }
}

fn parse(body: OpenTerminal) -> Result<TerminalSpec, Failure> {
    let mut errors = Vec::new();
    let size = check_size(body.cols, body.rows, &mut errors);
    if let Some(shell) = &body.shell {
        errors.extend(check_command(shell).into_iter().map(|error| FieldError {
            field: "shell".to_owned(),
            ..error
        }));
    }
    let cwd = directory(body.working_dir, body.cwd).unwrap_or_else(|error| {
        errors.push(error);
        String::new()
    });
    let env = body.env.unwrap_or_default();
    errors.extend(check_env(&env));
    if !errors.is_empty() {
        return Err(Failure::invalid(&errors));
    }
    Ok(TerminalSpec {
        id: rand::random(),
        size,
        shell: body.shell,
        cwd,
        env: env.into_iter().collect(),
    })
}

/// The socket's address as the client that asks reaches this server.
fn ws_url(headers: &HeaderMap, uri: &Uri, peer: Option<Peer>, id: &SandboxId) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or(uri.authority().map(|authority| authority.as_str()));
    let tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    let here = peer.is_some_and(|peer| peer.tls);
    let scheme = if tls || here || uri.scheme_str() == Some("https") {
        "wss"
    } else {
        "ws"
    };
    let host = host.unwrap_or("localhost");
    format!("{scheme}://{host}{BASE_PATH}/sandboxes/{id}/terminal/stream")
}
