//! A typed client for the command line and for tests.
//!
//! It never retries: whoever calls knows whether a second try is safe.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use reqwest::Body;

use crate::{BASE_PATH, Data, ErrorBody, ErrorResponse};

mod app;
mod deployment;
mod exec;
mod file;
mod key;
mod process;
mod sandbox;
mod snapshot;
mod stream;
mod template;
mod tenancy;
mod terminal;
mod usage;

pub use file::{Download, Reach};
pub use stream::{CommandEvent, DirectoryEvent, EventStream, SandboxEvent};
pub use terminal::{TerminalEvent, TerminalInput, TerminalOutput};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may be silent: an exec of 300 s and its overhead.
const SILENCE: Duration = Duration::from_secs(330);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("not an http address")]
    Address(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server could not be reached, or the connection broke.
    #[error("the server could not be reached")]
    Transport(#[from] reqwest::Error),
    /// The server refused.
    #[error("{}", shown(.error))]
    Api {
        /// HTTP status.
        status: u16,
        /// What it said.
        error: Box<ErrorBody>,
    },
    /// The connection to a terminal broke.
    #[error("the connection to the terminal broke")]
    Socket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The answer is not one of this API.
    #[error("the answer (status {status}) is not one of an Emberbox server")]
    NotOurs {
        /// HTTP status.
        status: u16,
    },
}

impl ClientError {
    /// The error code, if the server gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Api { error, .. } => Some(&error.code),
            Self::Address(_) | Self::Transport(_) | Self::Socket(_) | Self::NotOurs { .. } => None,
        }
    }
}

fn shown(error: &ErrorBody) -> String {
    let request = error.request_id.as_deref().unwrap_or("unknown");
    format!("{} ({}, request {request})", error.message, error.code)
}

/// Talks to one server with one key. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    authorization: header::HeaderValue,
}

impl Client {
    /// A client for the server at `url`, with or without `/api/v1`. Over TLS it
    /// believes whom this machine believes; `SSL_CERT_FILE` names others.
    pub fn new(url: &str, key: SecretString) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/');
        reqwest::Url::parse(base).map_err(|error| ClientError::Address(error.into()))?;
        let base = if base.ends_with(BASE_PATH) {
            base.to_owned()
        } else {
            format!("{base}{BASE_PATH}")
        };
        let bearer = format!("Bearer {}", key.expose_secret());
        let mut authorization = header::HeaderValue::try_from(bearer)
            .map_err(|error| ClientError::Address(error.into()))?;
        authorization.set_sensitive(true);
        // Whoever set another one for the process meant it.
        let _set_already = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()?;
        Ok(Self {
            http,
            base,
            authorization,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        read(self.request(Method::GET, path)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        read(self.request(Method::POST, path).json(body)).await
    }

    /// [`Client::get`] of what stands in an envelope.
    async fn get_data<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let Data { data } = self.get(path).await?;
        Ok(data)
    }

    /// [`Client::post`] of what comes in an envelope.
    async fn post_data<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let Data { data } = self.post(path, body).await?;
        Ok(data)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone())
    }
}

async fn read<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ClientError> {
    parse(send(request).await?).await
}

async fn parse<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let status = response.status().as_u16();
    let body = response.bytes().await?;
    serde_json::from_slice(&body).map_err(|_| ClientError::NotOurs { status })
}

async fn send(request: RequestBuilder) -> Result<Response, ClientError> {
    let response = request.send().await?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(refusal(response).await?)
}

/// Why the server refused, in its words.
async fn refusal(response: Response) -> Result<ClientError, ClientError> {
    let status = response.status().as_u16();
    let body = response.bytes().await?;
    Ok(match serde_json::from_slice::<ErrorResponse>(&body) {
        Ok(ErrorResponse { error }) => ClientError::Api {
            status,
            error: Box::new(error),
        },
        Err(_) => ClientError::NotOurs { status },
    })
}

/// The address of something that belongs to a sandbox.
fn of_sandbox(id: &str, rest: &str) -> String {
    format!("/sandboxes/{}/{rest}", encoded(id))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
