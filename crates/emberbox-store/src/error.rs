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
