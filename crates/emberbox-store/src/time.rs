//! Times as the schema keeps them.

use jiff::Timestamp;

use crate::StoreError;

/// Now, at the store's resolution, so that what is written reads back equal.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

pub(crate) fn read(column: &'static str, micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_out_of_range| StoreError::Corrupt {
        column,
        value: micros.to_string(),
    })
}

pub(crate) fn read_opt(
    column: &'static str,
    micros: Option<i64>,
) -> Result<Option<Timestamp>, StoreError> {
    micros.map(|micros| read(column, micros)).transpose()
}
