//! A sandbox's variables.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `PUT …/env` takes: variables to add or change; the others stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SetEnv {
    /// Which, each once.
    pub vars: Vec<NewEnvVar>,
}

/// A variable to set.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewEnvVar {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Taken, and without effect: see [`EnvVar::encrypted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
}

/// A variable that every process sees which starts from now on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvVar {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether it is stored encrypted, which nothing is here: `false`.
    pub encrypted: bool,
}

// Values are nobody's business in a log.
impl fmt::Debug for NewEnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEnvVar")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvVar")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
