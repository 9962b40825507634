//! What is known of a preview.

use std::fmt;
use std::str::FromStr;

use emberbox_core::{PreviewId, SandboxId};
use jiff::Timestamp;
use serde_json::{Map, Value};
use sqlx::types::Json;

use crate::store::parse;
use crate::{StoreError, time};

/// Who may see a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Whoever has the address.
    Public,
    /// Whoever has a token too.
    Private,
}

impl Visibility {
    /// As it is stored and told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Visibility {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Public, Self::Private]
            .into_iter()
            .find(|visibility| visibility.as_str() == text)
            .ok_or(())
    }
}

/// A preview to make, or what to change of the one this port has.
#[derive(Debug, Clone)]
pub struct NewPreview {
    /// The port.
    pub port: u16,
    /// Who may see it; as it is, or public when it is new.
    pub visibility: Option<Visibility>,
    /// The caller's name for it.
    pub name: Option<String>,
    /// The caller's data.
    pub metadata: Option<Map<String, Value>>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl NewPreview {
    /// What a bare expose asks for: a port, whatever it is otherwise.
    #[must_use]
    pub fn of(port: u16) -> Self {
        Self {
            port,
            visibility: None,
            name: None,
            metadata: None,
            expires_at: None,
        }
    }
}

/// A port that is shown, or was.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewRecord {
    /// Which.
    pub id: PreviewId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Its port.
    pub port: u16,
    /// Who may see it.
    pub visibility: Visibility,
    /// The caller's name for it.
    pub name: Option<String>,
    /// The caller's data.
    pub metadata: Map<String, Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last asked for.
    pub exposed_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was closed.
    pub deleted_at: Option<Timestamp>,
    /// How the token of its link begins.
    pub share_token_prefix: Option<String>,
    /// When its link ends.
    pub share_token_expires_at: Option<Timestamp>,
}

impl PreviewRecord {
    /// Whether it is shown at `now`.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.deleted_at.is_none() && !self.has_expired(now)
    }

    /// Whether its time is over at `now`.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// What became of a wish for a preview.
#[derive(Debug, Clone, PartialEq)]
pub enum Exposed {
    /// It is new.
    New(PreviewRecord),
    /// The port had one, which was changed.
    Changed(PreviewRecord),
    /// The sandbox has as many as it may.
    TooMany,
}

/// A row as the queries of the parent select it.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: String,
    sandbox_id: String,
    port: u16,
    visibility: String,
    name: Option<String>,
    metadata: Json<Map<String, Value>>,
    created_at: i64,
    exposed_at: i64,
    expires_at: Option<i64>,
    deleted_at: Option<i64>,
    share_token_prefix: Option<String>,
    share_token_expires_at: Option<i64>,
}

impl Row {
    pub(super) fn into_record(self) -> Result<PreviewRecord, StoreError> {
        Ok(PreviewRecord {
            id: parse("previews.id", &self.id)?,
            sandbox: parse("previews.sandbox_id", &self.sandbox_id)?,
            port: self.port,
            visibility: parse("previews.visibility", &self.visibility)?,
            name: self.name,
            metadata: self.metadata.0,
            created_at: time::read("previews.created_at", self.created_at)?,
            exposed_at: time::read("previews.exposed_at", self.exposed_at)?,
            expires_at: time::read_opt("previews.expires_at", self.expires_at)?,
            deleted_at: time::read_opt("previews.deleted_at", self.deleted_at)?,
            share_token_prefix: self.share_token_prefix,
            share_token_expires_at: time::read_opt(
                "preview_tokens.expires_at",
                self.share_token_expires_at,
            )?,
        })
    }
}
