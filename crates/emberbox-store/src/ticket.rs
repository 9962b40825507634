//! Tickets: what opens one stream, once, where no header can be sent.

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::key::{self, hash};
use crate::store::parse;
use crate::{Caller, Store, StoreError, time};

/// How every ticket begins (`client-contract.md`, "Around it").
const PREFIX: &str = "sset_";

/// How long a ticket waits to be used (`client-contract.md`, "Around it").
const LIFE: SignedDuration = SignedDuration::from_secs(60);

/// A ticket that was made, with its secret for the only time.
#[derive(Debug)]
pub struct NewTicket {
    /// What is shown to open a stream.
    pub secret: SecretString,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// How long that is from now.
    pub life: SignedDuration,
}

impl Store {
    /// Makes a ticket that speaks for the caller once; for any stream, or for
    /// the one at `path` only.
    pub async fn create_ticket(
        &self,
        caller: &Caller,
        path: Option<&str>,
    ) -> Result<NewTicket, StoreError> {
        let secret = key::random_secret(PREFIX);
        let now = time::now();
        let expires_at = now.checked_add(LIFE).unwrap_or(now);
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM stream_tickets WHERE expires_at <= ?")
            .bind(now.as_microsecond())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO stream_tickets (secret_sha256, key_id, generation, path, expires_at) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(hash(&secret))
        .bind(caller.key.as_str())
        .bind(caller.generation)
        .bind(path)
        .bind(expires_at.as_microsecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(NewTicket {
            secret: secret.into(),
            expires_at,
            life: LIFE,
        })
    }

    /// Whom a ticket speaks for at `path`. It is used up, also by a wrong path
    /// or when its key's secret has stopped working meanwhile.
    pub async fn redeem_ticket(
        &self,
        secret: &str,
        path: &str,
    ) -> Result<Option<Caller>, StoreError> {
        if !secret.starts_with(PREFIX) {
            return Ok(None);
        }
        let now = time::now().as_microsecond();
        let mut tx = self.write().await?;
        let ticket: Option<(String, u32, Option<String>, i64)> = sqlx::query_as(
            "DELETE FROM stream_tickets WHERE secret_sha256 = ? \
             RETURNING key_id, generation, path, expires_at",
        )
        .bind(hash(secret))
        .fetch_optional(&mut *tx)
        .await?;
        let Some((key, generation, bound_to, expires_at)) = ticket else {
            return Ok(None);
        };
        let key = parse("stream_tickets.key_id", &key)?;
        let caller = key::caller(&mut *tx, &key, generation).await?;
        tx.commit().await?;
        let fits = expires_at > now && bound_to.is_none_or(|bound_to| bound_to == path);
        Ok(caller.filter(|_| fits))
    }
}
