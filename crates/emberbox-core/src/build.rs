//! The life of a template's build as one pure, total function.
//!
//! ```text
//! queued ─▶ building ─▶ snapshotting ─▶ certifying ─▶ distributing ─▶ ready
//!   ▲  │        │             │             │              │
//!   │  ├────────┴─────────────┴─cancel──────┴──────────────┴─▶ cancelled
//!   │  └────────┴─────────────┴─failed──────┴──────────────┴─▶ failed
//!   └── interrupted (from any phase), retry (from failed and cancelled)
//! ```
//!
//! Invariants: phases only go forward; nothing leaves `ready`; a build that is
//! over changes only because somebody asks for another try.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The public state of a build (`reference.txt`, "Queue a template build").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// It waits for its turn.
    Queued,
    /// The base image is fetched and the steps run.
    Building,
    /// The image is booted and its memory snapshot taken.
    Snapshotting,
    /// What was made is restored and checked.
    Certifying,
    /// The artifacts go to where hosts fetch them.
    Distributing,
    /// Sandboxes boot from it.
    Ready,
    /// It did not work; the error says why.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl BuildState {
    /// Every state, in the order in which a build passes through them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Building,
        Self::Snapshotting,
        Self::Certifying,
        Self::Distributing,
        Self::Ready,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The public name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Building => "building",
            Self::Snapshotting => "snapshotting",
            Self::Certifying => "certifying",
            Self::Distributing => "distributing",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the build is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Ready | Self::Failed | Self::Cancelled => true,
            Self::Queued
            | Self::Building
            | Self::Snapshotting
            | Self::Certifying
            | Self::Distributing => false,
        }
    }

    /// Whether a host works on it.
    #[must_use]
    pub fn is_phase(self) -> bool {
        match self {
            Self::Building | Self::Snapshotting | Self::Certifying | Self::Distributing => true,
            Self::Queued | Self::Ready | Self::Failed | Self::Cancelled => false,
        }
    }

    /// Decides what `change` means in this state. Total: every pair has an
    /// answer.
    #[must_use]
    pub fn advance(self, change: BuildChange) -> Advance {
        match change {
            BuildChange::Cancel if self.is_over() => Advance::Deny,
            BuildChange::Cancel => Advance::To(Self::Cancelled),
            BuildChange::Retry => match self {
                Self::Failed | Self::Cancelled => Advance::To(Self::Queued),
                Self::Queued
                | Self::Building
                | Self::Snapshotting
                | Self::Certifying
                | Self::Distributing
                | Self::Ready => Advance::Deny,
            },
            // What a host says late, or twice, changes nothing.
            BuildChange::Entered(phase) if self.is_over() || phase <= self => Advance::Stay,
            BuildChange::Entered(phase) if phase.is_phase() => Advance::To(phase),
            BuildChange::Entered(_) => Advance::Stay,
            BuildChange::Finished if self.is_phase() => Advance::To(Self::Ready),
            BuildChange::Finished => Advance::Stay,
            BuildChange::Failed if self.is_over() => Advance::Stay,
            BuildChange::Failed => Advance::To(Self::Failed),
            BuildChange::Interrupted if self.is_phase() => Advance::To(Self::Queued),
            BuildChange::Interrupted => Advance::Stay,
        }
    }
}

impl fmt::Display for BuildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something somebody wants of a build, or that has happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildChange {
    /// Wanted: that it ends.
    Cancel,
    /// Wanted: another try.
    Retry,
    /// Its host entered this phase.
    Entered(BuildState),
    /// Its image can be booted.
    Finished,
    /// It did not work.
    Failed,
    /// Whoever worked on it is gone; it has to begin again.
    Interrupted,
}

/// What a change means in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The state becomes this one.
    To(BuildState),
    /// Nothing to do.
    Stay,
    /// Not in this state.
    Deny,
}

/// A name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0}")]
pub struct UnknownName(&'static str);

impl FromStr for BuildState {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or(UnknownName("build state"))
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a build is not ready: the `error_code` of its record. Stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum BuildErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl BuildErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The public name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

error_codes! {
    /// The registry knows no such image.
    BaseImageNotFound = "BASE_IMAGE_NOT_FOUND";
    /// The registry wants credentials, or other ones.
    BaseImageUnauthorized = "BASE_IMAGE_UNAUTHORIZED";
    /// The registry does not answer, or not as one.
    RegistryUnavailable = "REGISTRY_UNAVAILABLE";
    /// The image is not one that sandboxes can be made of.
    UnsupportedBaseImage = "UNSUPPORTED_BASE_IMAGE";
    /// What arrived is not what its digest says.
    ImageDigestMismatch = "IMAGE_DIGEST_MISMATCH";
    /// A layer holds what no honest layer holds.
    ImageRefused = "IMAGE_REFUSED";
    /// A step's command did not exit with 0.
    StepFailed = "STEP_FAILED";
    /// A step ran over its time.
    StepTimeout = "STEP_TIMEOUT";
    /// The image is over the disk it asked for, or over the limit.
    ImageTooLarge = "IMAGE_TOO_LARGE";
    /// No memory snapshot could be seeded.
    SnapshotFailed = "SNAPSHOT_FAILED";
    /// What was made does not pass its checks when it is restored.
    CertificationFailed = "CERTIFICATION_FAILED";
    /// The artifacts could not be published.
    DistributionFailed = "DISTRIBUTION_FAILED";
    /// Somebody ended it.
    BuildCancelled = "BUILD_CANCELLED";
    /// Something failed inside the server.
    Internal = "INTERNAL";
}

impl fmt::Display for BuildErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BuildErrorCode {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let known = Self::ALL.iter().find(|code| code.as_str() == text);
        known.copied().ok_or(UnknownName("build error code"))
    }
}

#[cfg(test)]
mod tests;
