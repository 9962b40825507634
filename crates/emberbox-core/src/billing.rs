//! What running costs: prices, quantities, and the arithmetic of one charge.
//!
//! Money is whole micro-credits. What a charge leaves over of one is carried
//! to the next charge of the same segment, so that a sandbox settled every
//! minute costs what it costs settled once.

use serde::{Deserialize, Serialize};

use crate::Shape;

/// Micro-credits of one credit.
pub const MICRO: i64 = 1_000_000;

/// Milliseconds of an hour.
const HOUR_MS: u128 = 3_600_000;

/// Binary digits of the bytes in a GiB.
const GIB_BITS: u32 = 30;

/// Binary digits of the MiB in a GiB.
const MIB_PER_GIB_BITS: u32 = 10;

/// Parts of a micro-credit that a charge is counted in: a multiple of what
/// each price is divided by.
const PARTS: u128 = HOUR_MS << GIB_BITS;

/// What each thing costs, in micro-credits. Zero is free: it is counted all
/// the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prices {
    /// Of one vCPU for one hour.
    pub vcpu_hour: u32,
    /// Of one GiB of memory for one hour.
    pub memory_gib_hour: u32,
    /// Of one GiB of disk for one hour.
    pub disk_gib_hour: u32,
    /// Of one GiB that leaves the sandbox's network.
    pub egress_gib: u32,
}

/// How much of each priced thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quantity {
    /// vCPUs × milliseconds.
    pub vcpu_ms: u64,
    /// MiB of memory × milliseconds.
    pub memory_mib_ms: u64,
    /// MiB of disk × milliseconds.
    pub disk_mib_ms: u64,
    /// Bytes that left the sandbox's network.
    pub egress_bytes: u64,
}

impl Quantity {
    /// What holding `shape` for `ms` milliseconds is.
    #[must_use]
    pub fn held(shape: Shape, ms: u64) -> Self {
        Self {
            vcpu_ms: u64::from(shape.vcpus).saturating_mul(ms),
            memory_mib_ms: u64::from(shape.memory_mib).saturating_mul(ms),
            disk_mib_ms: u64::from(shape.disk_mib).saturating_mul(ms),
            egress_bytes: 0,
        }
    }
}

/// What a charge left over of a micro-credit; less than one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carry(u64);

impl Carry {
    /// As it was stored; `None` if it is no less than a micro-credit.
    #[must_use]
    pub fn from_parts(parts: u64) -> Option<Self> {
        (u128::from(parts) < PARTS).then_some(Self(parts))
    }

    /// To be stored.
    #[must_use]
    pub fn parts(self) -> u64 {
        self.0
    }
}

impl Prices {
    /// What `quantity` costs with what the last charge left over: whole
    /// micro-credits, and what is left over now.
    #[must_use]
    pub fn charge(&self, quantity: &Quantity, carry: Carry) -> (i64, Carry) {
        let of = |amount: u64, price: u32| u128::from(amount) * u128::from(price);
        let parts = (of(quantity.vcpu_ms, self.vcpu_hour) << GIB_BITS)
            + (of(quantity.memory_mib_ms, self.memory_gib_hour) << (GIB_BITS - MIB_PER_GIB_BITS))
            + (of(quantity.disk_mib_ms, self.disk_gib_hour) << (GIB_BITS - MIB_PER_GIB_BITS))
            + of(quantity.egress_bytes, self.egress_gib) * HOUR_MS
            + u128::from(carry.0);
        // No life of a sandbox costs what does not fit; u128 holds them all.
        let micro = i64::try_from(parts / PARTS).unwrap_or(i64::MAX);
        let left = u64::try_from(parts % PARTS).expect("PARTS is below 2^64");
        (micro, Carry(left))
    }
}

#[cfg(test)]
mod tests;
