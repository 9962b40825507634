use proptest::prelude::*;

use super::{Carry, MICRO, Prices, Quantity};
use crate::Shape;

const HOUR_MS: u64 = 3_600_000;
const MICRO_PRICE: u32 = 1_000_000;

fn cost(prices: Prices, quantity: Quantity) -> i64 {
    prices.charge(&quantity, Carry::default()).0
}

#[test]
fn a_price_is_what_one_unit_costs() {
    let shape = Shape {
        vcpus: 2,
        memory_mib: 2048,
        disk_mib: 512,
    };
    let hour = Quantity {
        egress_bytes: 3 << 30,
        ..Quantity::held(shape, HOUR_MS)
    };
    let only = |prices: Prices| cost(prices, hour);
    let free = Prices::default();
    let credit = MICRO;
    let cases = [
        (
            Prices {
                vcpu_hour: MICRO_PRICE,
                ..free
            },
            2 * credit,
        ),
        (
            Prices {
                memory_gib_hour: MICRO_PRICE,
                ..free
            },
            2 * credit,
        ),
        (
            Prices {
                disk_gib_hour: MICRO_PRICE,
                ..free
            },
            credit / 2,
        ),
        (
            Prices {
                egress_gib: MICRO_PRICE,
                ..free
            },
            3 * credit,
        ),
        (free, 0),
    ];
    for (prices, expected) in cases {
        assert_eq!(only(prices), expected, "{prices:?}");
    }
}

#[test]
fn less_than_a_micro_credit_is_carried_not_lost() {
    let prices = Prices {
        vcpu_hour: 1,
        ..Prices::default()
    };
    let minute = Quantity {
        vcpu_ms: HOUR_MS / 60,
        ..Quantity::default()
    };
    let (mut carry, mut total) = (Carry::default(), 0);
    for _ in 0..60 {
        let (micro, left) = prices.charge(&minute, carry);
        total += micro;
        carry = left;
    }
    assert_eq!((total, carry), (1, Carry::default()));
}

#[test]
fn a_carry_is_less_than_a_micro_credit() {
    assert_eq!(Carry::from_parts(0), Some(Carry::default()));
    assert_eq!(Carry::from_parts(u64::MAX), None);
}

#[test]
fn the_largest_of_everything_does_not_overflow() {
    let prices = Prices {
        vcpu_hour: u32::MAX,
        memory_gib_hour: u32::MAX,
        disk_gib_hour: u32::MAX,
        egress_gib: u32::MAX,
    };
    let all = Quantity {
        vcpu_ms: u64::MAX,
        memory_mib_ms: u64::MAX,
        disk_mib_ms: u64::MAX,
        egress_bytes: u64::MAX,
    };
    assert_eq!(cost(prices, all), i64::MAX);
}

proptest! {
    /// However a quantity is cut into pieces, they cost the same together.
    #[test]
    fn pieces_cost_what_the_whole_costs(
        pieces in prop::collection::vec((0..10_000_000_u64, 0..5_000_000_000_u64), 1..20),
        vcpu_hour: u32, memory_gib_hour: u32, disk_gib_hour: u32, egress_gib: u32,
    ) {
        let prices = Prices { vcpu_hour, memory_gib_hour, disk_gib_hour, egress_gib };
        let (mut carry, mut charged) = (Carry::default(), 0);
        for (ms, egress_bytes) in &pieces {
            let piece = Quantity { egress_bytes: *egress_bytes, ..Quantity::held(Shape::DEFAULT, *ms) };
            let (micro, left) = prices.charge(&piece, carry);
            charged += micro;
            carry = left;
        }
        let whole = Quantity {
            egress_bytes: pieces.iter().map(|piece| piece.1).sum(),
            ..Quantity::held(Shape::DEFAULT, pieces.iter().map(|piece| piece.0).sum())
        };
        prop_assert_eq!((charged, carry), prices.charge(&whole, Carry::default()));
    }
}
