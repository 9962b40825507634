//! Why the store could not do it.

/// The database failed, or holds something it never should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A row that no version of this program could have written.
    #[error("column {column} holds {value:?}")]
    Corrupt {
        /// Which column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// A tenant lacks what [`crate::Store::bootstrap`] makes.
    #[error("the database has no default tenant; it was not bootstrapped")]
    NotBootstrapped,
}

/// `SQLITE_FULL`: nothing more can be written
/// (<https://sqlite.org/rescode.html>).
const FULL: &str = "13";

/// `SQLITE_IOERR_SHMSIZE`: the index of the write-ahead log cannot grow.
const LOG_INDEX_CANNOT_GROW: &str = "4874";

impl StoreError {
    /// Whether the disk had no room. Nothing was written, and the same may be
    /// done when there is room again.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else {
            return false;
        };
        let code = error.code();
        matches!(code.as_deref(), Some(FULL | LOG_INDEX_CANNOT_GROW))
    }
}

#[cfg(test)]
mod tests;
