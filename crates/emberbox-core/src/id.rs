//! Identifiers: a prefix that says what it names and a lower-case ULID.
//!
//! A ULID sorts by creation time and is a legal DNS label, file name and
//! namespace name, so one string names a thing everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A string that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {expected}… identifier")]
pub struct InvalidId {
    /// The prefix the identifier had to start with.
    pub expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// What every identifier of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new identifier, unique without coordination.
            #[must_use]
            pub fn generate() -> Self {
                let mut text = String::with_capacity(Self::PREFIX.len() + 26);
                text.push_str(Self::PREFIX);
                text.push_str(&ulid::Ulid::generate().to_string().to_ascii_lowercase());
                Self(text)
            }

            /// The whole identifier, prefix included.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let invalid = InvalidId { expected: Self::PREFIX };
                let rest = text.strip_prefix(Self::PREFIX).ok_or(invalid.clone())?;
                let legal = rest.len() == 26
                    && rest.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
                if legal { Ok(Self(text.to_owned())) } else { Err(invalid) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A sandbox as its user sees it; outlives the VMs that run it.
    SandboxId,
    "sbx_"
);
id!(
    /// One life of a VM. A sandbox that is restored or resumed gets a new one,
    /// so nothing of an old life can be taken for the new.
    VmId,
    "vm_"
);
id!(
    /// A tenant: the wall nothing is visible across.
    TenantId,
    "tnt_"
);
id!(
    /// A user of a tenant; the owner recorded on what they create.
    UserId,
    "usr_"
);
id!(
    /// An API key (its public name, never the secret).
    ApiKeyId,
    "key_"
);

id!(
    /// A preview: one port of a sandbox, shown to the world.
    PreviewId,
    "pvw_"
);
id!(
    /// A link that lets whoever has it see a sandbox's previews.
    ShareId,
    "shr_"
);

id!(
    /// A deployment: a name on the outside for an app in a sandbox.
    DeploymentId,
    "dep_"
);

id!(
    /// A snapshot: a sandbox's memory, devices and disk at one moment. A pause
    /// leaves one too.
    SnapshotId,
    "snap_"
);

id!(
    /// A batch: many sandboxes asked for at once.
    BatchId,
    "bat_"
);

id!(
    /// A tenant's own template.
    TemplateId,
    "tpl_"
);
id!(
    /// One build of a template.
    BuildId,
    "build_"
);

impl VmId {
    /// The sandbox that begins with this VM, if the VM was there first: so it
    /// can have its name before anybody asks for a sandbox.
    #[must_use]
    pub fn own_sandbox(&self) -> SandboxId {
        let ulid = &self.0[Self::PREFIX.len()..];
        SandboxId(format!("{}{ulid}", SandboxId::PREFIX))
    }
}

/// Length of a [`slug`], in characters.
pub const SLUG_LEN: usize = 12;

/// A random DNS label for a sandbox: 12 characters of `a-z2-7`, first one a
/// letter. 60 bits, so that a preview name cannot be guessed.
#[must_use]
pub fn slug() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits: u64 = rand::random();
    (0..SLUG_LEN)
        .map(|i| {
            let index = ((bits >> (5 * i)) & 31) as usize;
            // A label of digits only could be taken for a port prefix.
            let index = if i == 0 { index % 26 } else { index };
            char::from(ALPHABET[index])
        })
        .collect()
}

#[cfg(test)]
mod tests;
