//! What a change says of a field: nothing, null, or a value.

use serde::{Deserialize, Deserializer};

/// Reads a field that is there, null included; with `#[serde(default)]` the
/// outer `None` says that it is absent.
pub(crate) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
