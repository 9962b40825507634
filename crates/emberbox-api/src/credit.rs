//! A tenant's account.

use emberbox_core::SandboxId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Time;

/// What a tenant has, and what moved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credits {
    /// Millionths of a credit.
    pub balance_micro: i64,
    /// The same for people.
    #[schema(example = "12.5")]
    pub balance: String,
    /// Whether an account that cannot pay is refused new sandboxes.
    pub enforced: bool,
    /// What it must have for a new sandbox.
    pub minimum_balance_micro: i64,
    /// What running costs.
    pub prices: PriceList,
    /// The newest entries, newest first.
    pub entries: Vec<CreditEntry>,
}

/// Millionths of a credit; zero is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PriceList {
    /// One vCPU for one hour.
    pub vcpu_hour_micro: u32,
    /// One GiB of memory for one hour.
    pub memory_gib_hour_micro: u32,
    /// One GiB of disk for one hour.
    pub disk_gib_hour_micro: u32,
    /// One GiB to the outside.
    pub egress_gib_micro: u32,
}

/// One line of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditEntry {
    /// Grows with every entry.
    pub id: i64,
    /// `grant`, `charge` or `adjustment`.
    pub kind: String,
    /// By how much the balance moved.
    pub amount_micro: i64,
    /// The balance after it.
    pub balance_micro: i64,
    /// What a charge is for.
    #[schema(value_type = Option<String>)]
    pub sandbox_id: Option<SandboxId>,
    /// What the operator wrote.
    pub note: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
}

/// What changes an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ChangeCredits {
    /// Millionths of a credit: more than none for a grant, anything but none
    /// for an adjustment.
    pub amount_micro: i64,
    /// `grant` (when absent) or `adjustment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Micro-credits for people: `-1.25`.
#[must_use]
pub fn decimal(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let (whole, part) = (
        micro.unsigned_abs() / 1_000_000,
        micro.unsigned_abs() % 1_000_000,
    );
    let part = format!("{part:06}");
    match part.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part}"),
    }
}

/// What [`decimal`] wrote; at most six digits after the point.
#[must_use]
pub fn micro(decimal: &str) -> Option<i64> {
    let (sign, digits) = match decimal.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, decimal),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let legal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !legal(whole) || !legal(part) || part.len() > 6 {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{part:0<6}").parse().ok()?;
    whole
        .checked_mul(1_000_000)?
        .checked_add(part)?
        .checked_mul(sign)
}

#[cfg(test)]
mod tests;
