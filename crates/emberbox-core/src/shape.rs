//! The shape of a sandbox: vCPUs, memory and disk. A memory snapshot fixes
//! all three, so a shape is also part of a seed's key.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// What a sandbox is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Writable disk in MiB (sparse: what is not written costs nothing).
    pub disk_mib: u32,
}

impl Shape {
    /// The reference's default: 1 vCPU, 1024 MB, 3072 MB.
    pub const DEFAULT: Self = Self {
        vcpus: 1,
        memory_mib: 1024,
        disk_mib: 3072,
    };

    /// Smallest memory a guest with the base template boots in, in MiB.
    pub const MIN_MEMORY_MIB: u32 = 128;
    /// Smallest scratch disk that holds a file system and its reserve, in MiB.
    pub const MIN_DISK_MIB: u32 = 64;

    /// Checks the shape against a tenant's caps and names every field that is
    /// out of range.
    pub fn check(self, limits: &Limits) -> Result<Self, Vec<OutOfRange>> {
        let fields = [
            ("cpu_count", self.vcpus, 1, limits.max_vcpus),
            (
                "memory_mb",
                self.memory_mib,
                Self::MIN_MEMORY_MIB,
                limits.max_memory_mib,
            ),
            (
                "disk_mb",
                self.disk_mib,
                Self::MIN_DISK_MIB,
                limits.max_disk_mib,
            ),
        ];
        let errors: Vec<_> = fields
            .into_iter()
            .filter(|(_, value, min, max)| value < min || value > max)
            .map(|(field, value, min, max)| OutOfRange {
                field,
                value: value.into(),
                min,
                max,
            })
            .collect();
        if errors.is_empty() {
            Ok(self)
        } else {
            Err(errors)
        }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Shape {
    /// `1c-1024m-3072d`: legal in a file name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}c-{}m-{}d", self.vcpus, self.memory_mib, self.disk_mib)
    }
}

/// A number outside its range; `field` is the public name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be between {min} and {max}, not {value}")]
pub struct OutOfRange {
    /// The request field's name.
    pub field: &'static str,
    /// What was asked for.
    pub value: i64,
    /// Smallest legal value.
    pub min: u32,
    /// Largest legal value.
    pub max: u32,
}

/// The official clients' named sizes (`client-contract.md`, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeTier {
    /// 1 vCPU, 2 GiB, 10 GiB disk.
    Xs,
    /// 2 vCPU, 4 GiB, 10 GiB disk.
    Small,
    /// 4 vCPU, 8 GiB, 20 GiB disk.
    Medium,
    /// 8 vCPU, 16 GiB, 40 GiB disk.
    Large,
    /// 16 vCPU, 32 GiB, 80 GiB disk.
    Xl,
}

impl SizeTier {
    /// The tier with this public name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "xs" => Self::Xs,
            "small" => Self::Small,
            "medium" => Self::Medium,
            "large" => Self::Large,
            "xl" => Self::Xl,
            _ => return None,
        })
    }

    /// The shape this tier stands for.
    #[must_use]
    pub fn shape(self) -> Shape {
        let (vcpus, memory_mib, disk_mib) = match self {
            Self::Xs => (1, 2048, 10_240),
            Self::Small => (2, 4096, 10_240),
            Self::Medium => (4, 8192, 20_480),
            Self::Large => (8, 16_384, 40_960),
            Self::Xl => (16, 32_768, 81_920),
        };
        Shape {
            vcpus,
            memory_mib,
            disk_mib,
        }
    }
}

#[cfg(test)]
mod tests;
