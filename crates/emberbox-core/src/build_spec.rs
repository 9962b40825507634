//! What a template is made of: the BuildSpec (`reference.txt`, "BuildSpec
//! fields"), checked and normalised.
//!
//! Decides: which specs are legal, what is assumed where one says nothing, and
//! which base images are refused by their name alone.
//! Must not know: registries, what is inside an image.
//!
//! Invariants: every error is found, not the first only, and each names its
//! field; a normalised spec is normalised again to itself; a field that the
//! reference does not know is left out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::Limits;
use crate::shape::Shape;

mod base_image;
mod parse;

pub use base_image::{BaseImage, InvalidBaseImage};

/// The version of the contract that the schema is published under.
pub const VERSION: &str = "2026-05-13";

/// Longest `from`: 255 for a name, 128 for a tag, and a digest.
pub const FROM_MAX: usize = 512;

/// Most steps: each is a run of its own and may become a layer.
pub const STEPS_MAX: usize = 64;

/// Longest command, in bytes: half of what Linux takes as one argument.
pub const COMMAND_MAX: usize = 64 * 1024;

/// Largest environment, names and values together, in bytes: what a sandbox's
/// may be.
pub const ENV_MAX: usize = 64 * 1024;

/// Longest path, in bytes: Linux' `PATH_MAX`.
pub const PATH_MAX: usize = 4096;

/// Longest `user`, in bytes: two names of the longest that `useradd` makes,
/// and a colon.
pub const USER_MAX: usize = 65;

/// Most artifact paths: they are part of every answer about artifacts.
pub const ARTIFACT_PATHS_MAX: usize = 32;

/// Where an app lives when the spec says nothing.
pub const DEFAULT_WORKDIR: &str = "/workspace";

/// Who runs it when the spec says nothing.
pub const DEFAULT_USER: &str = "root";

/// A spec that is legal and complete. Its names on the wire are the
/// reference's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildSpec {
    /// The base: a reference to an OCI image, or the name of an image that the
    /// host already has. A legal [`BaseImage`].
    pub from: String,
    /// vCPUs of its sandboxes.
    pub vcpu: u32,
    /// Their memory in MiB.
    pub memory_mib: u32,
    /// Their disk in MiB.
    pub disk_mib: u32,
    /// What is done to the base, in this order.
    pub steps: Vec<BuildStep>,
    /// Variables of every process: of the steps, and of the sandboxes unless
    /// they say otherwise.
    pub env: BTreeMap<String, String>,
    /// Where the steps begin and the app runs; made if it is not there.
    pub workdir: String,
    /// Who runs the steps and the app: a name or a number, and a group behind
    /// a colon.
    pub user: String,
    /// Runs the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_cmd: Option<String>,
    /// Exits with 0 when the app is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_cmd: Option<String>,
    /// Where the app listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_port: Option<u16>,
    /// What the app leaves behind for its user.
    pub artifact_paths: Vec<String>,
}

/// One step. It names at least one of the three. `workdir` and `env` are in
/// force before its own `run`, and for all later steps; they end with the
/// build: what a sandbox gets are the spec's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStep {
    /// A command for the shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The directory of this and later commands; made if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// More variables of this and later commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

impl BuildSpec {
    /// Checks and normalises what somebody sent. Never panics, whatever the
    /// value is.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the fields.
    pub fn parse(value: &Value, limits: &BuildLimits) -> Result<Self, Vec<SpecError>> {
        parse::parse(value, limits)
    }

    /// The shape of its sandboxes.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape {
            vcpus: self.vcpu,
            memory_mib: self.memory_mib,
            disk_mib: self.disk_mib,
        }
    }
}

/// The largest shape that a spec may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildLimits {
    /// Most vCPUs.
    pub max_vcpus: u32,
    /// Most memory in MiB.
    pub max_memory_mib: u32,
    /// Largest disk in MiB.
    pub max_disk_mib: u32,
}

impl From<&Limits> for BuildLimits {
    /// A template may be as large as a sandbox of the tenant.
    fn from(limits: &Limits) -> Self {
        Self {
            max_vcpus: limits.max_vcpus,
            max_memory_mib: limits.max_memory_mib,
            max_disk_mib: limits.max_disk_mib,
        }
    }
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// What is wrong with one field of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field} {message}")]
pub struct SpecError {
    /// What kind of error. Stable.
    pub code: SpecErrorCode,
    /// The field: its name, or a path such as `steps.0.run`.
    pub field: String,
    /// For people.
    pub message: String,
}

/// Kinds of errors in a spec (`reference.txt`, "Validation errors use stable
/// codes"). A wrong JSON type gives the nearest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SpecErrorCode {
    /// A value that is needed is missing, or it is none of the needed kind.
    Required,
    /// The base cannot be one.
    UnsupportedBaseImage,
    /// A number is outside its limits, or something is too long.
    OutOfRange,
    /// A number is not an integer.
    InvalidInteger,
    /// A port is outside 1 to 65535.
    InvalidPort,
    /// A path is not absolute.
    InvalidPath,
    /// A step is not one.
    InvalidStep,
}

impl SpecErrorCode {
    /// Every code, in the order of the reference's table.
    pub const ALL: [Self; 7] = [
        Self::Required,
        Self::UnsupportedBaseImage,
        Self::OutOfRange,
        Self::InvalidInteger,
        Self::InvalidPort,
        Self::InvalidPath,
        Self::InvalidStep,
    ];

    /// The public name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::UnsupportedBaseImage => "UNSUPPORTED_BASE_IMAGE",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::InvalidInteger => "INVALID_INTEGER",
            Self::InvalidPort => "INVALID_PORT",
            Self::InvalidPath => "INVALID_PATH",
            Self::InvalidStep => "INVALID_STEP",
        }
    }
}

impl fmt::Display for SpecErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
