//! Tickets for streams a browser opens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use emberbox_api::{BASE_PATH, CreateTicket, ErrorResponse, StreamTicket, Time};
use secrecy::ExposeSecret;

use super::auth::Auth;
use super::json::JsonBody;
use crate::Failure;
use crate::control::Control;

/// Longest path a ticket is bound to: the routes' own are far shorter.
const PATH_MAX: usize = 1024;

/// Make a ticket that opens one GET stream, once
#[utoipa::path(post, path = "/auth/sse-ticket", tag = "auth", request_body = CreateTicket,
    responses((status = 200, body = StreamTicket), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    Auth(caller): Auth,
    JsonBody(body): JsonBody<CreateTicket>,
) -> Result<Json<StreamTicket>, Failure> {
    let path = body.path.map(bound_to).transpose()?;
    let ticket = control
        .store()
        .create_ticket(&caller, path.as_deref())
        .await?;
    Ok(Json(StreamTicket {
        ticket: ticket.secret.expose_secret().to_owned(),
        expires_in: ticket.life.as_secs(),
        expires_at: Time(ticket.expires_at),
    }))
}

/// The same under the clients' name
#[utoipa::path(post, path = "/sse/ticket", tag = "auth", request_body = CreateTicket,
    responses((status = 200, body = StreamTicket), (status = 422, body = ErrorResponse)))]
pub(super) async fn create_for_clients(
    control: State<Arc<Control>>,
    auth: Auth,
    body: JsonBody<CreateTicket>,
) -> Result<Json<StreamTicket>, Failure> {
    create(control, auth, body).await
}

/// The path as the stream's URL will have it.
fn bound_to(path: String) -> Result<String, Failure> {
    let legal = path.starts_with('/') && path.len() <= PATH_MAX && !path.contains(['?', '#']);
    if !legal {
        return Err(Failure::invalid_field(
            "path",
            format!(
                "must be the stream's absolute path without its query, at most {PATH_MAX} bytes"
            ),
        ));
    }
    Ok(if path.starts_with(&format!("{BASE_PATH}/")) {
        path
    } else {
        format!("{BASE_PATH}{path}")
    })
}
