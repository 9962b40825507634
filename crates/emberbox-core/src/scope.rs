//! What an API key may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// One thing a key may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Scope {
            $($(#[$doc])* $variant,)*
        }

        impl Scope {
            /// Every scope, in the order they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As it stands on the wire and in the store.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

scopes! {
    /// See sandboxes and what belongs to them.
    SandboxesRead = "sandboxes:read";
    /// Make them, and see them.
    SandboxesCreate = "sandboxes:create";
    /// Run commands in them and use their files, and see them.
    SandboxesExec = "sandboxes:exec";
    /// Make, use, change, remove and see them.
    SandboxesWrite = "sandboxes:write";
    /// Make templates and build them.
    TemplatesWrite = "templates:write";
    /// Make, change and remove workspaces and projects.
    WorkspacesWrite = "workspaces:write";
    /// See what was used and what it cost.
    BillingRead = "billing:read";
    /// See, make, change and revoke keys.
    KeysWrite = "keys:write";
    /// Everything, of every tenant.
    Admin = "admin";
}

impl Scope {
    /// What whoever has this one may do besides.
    #[must_use]
    pub fn includes(self) -> &'static [Self] {
        match self {
            Self::SandboxesWrite => &[
                Self::SandboxesRead,
                Self::SandboxesCreate,
                Self::SandboxesExec,
            ],
            Self::SandboxesCreate | Self::SandboxesExec => &[Self::SandboxesRead],
            Self::Admin => Self::ALL,
            Self::SandboxesRead
            | Self::TemplatesWrite
            | Self::WorkspacesWrite
            | Self::BillingRead
            | Self::KeysWrite => &[],
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope")]
pub struct UnknownScope(pub String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.iter().find(|scope| scope.as_str() == text);
        found.copied().ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u16);

impl Scopes {
    /// Everything of one tenant: what a key may do that was given no scopes.
    pub const TENANT: Self = Self(!Self::bit(Scope::Admin) & Self::EVERY_BIT);

    /// The operator's.
    pub const OPERATOR: Self = Self(Self::bit(Scope::Admin));

    const EVERY_BIT: u16 = (1 << Scope::ALL.len()) - 1;

    const fn bit(scope: Scope) -> u16 {
        1 << scope as u8
    }

    /// Whether this may be done.
    #[must_use]
    pub fn allow(self, scope: Scope) -> bool {
        self.iter()
            .any(|own| own == scope || own.includes().contains(&scope))
    }

    /// Whether `other` allows all that this one does.
    #[must_use]
    pub fn are_within(self, other: Self) -> bool {
        self.iter().all(|scope| other.allow(scope))
    }

    /// The scopes of the set, in their order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        let all = Scope::ALL.iter().copied();
        all.filter(move |&scope| self.0 & Self::bit(scope) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(
            scopes
                .into_iter()
                .map(Self::bit)
                .fold(0, |set, bit| set | bit),
        )
    }
}

impl fmt::Display for Scopes {
    /// Separated by blanks, as RFC 6749 (3.3) writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, scope) in self.iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            write!(f, "{gap}{scope}")?;
        }
        Ok(())
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split_ascii_whitespace().map(Scope::from_str).collect()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::as_str))
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let scopes = names.iter().map(|name| name.parse());
        scopes
            .collect::<Result<_, UnknownScope>>()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
