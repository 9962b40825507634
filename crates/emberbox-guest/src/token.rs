//! The secret that opens one life of one guest.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// 32 random bytes a guest is claimed with. Compared in constant time and
/// never printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct Token([u8; 32]);

impl Token {
    /// What a call to an unclaimed agent carries.
    pub const UNCLAIMED: Self = Self([0; 32]);

    /// Wraps bytes from a cryptographic source.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
