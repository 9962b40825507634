use super::*;

const GIB: u64 = 1 << 30;

#[test]
fn a_pool_is_bounded_by_number_and_by_memory() {
    let config = PoolConfig {
        keep: 4,
        max_prepared: 20,
        max_memory_mib: None,
        idle: Duration::from_secs(1),
        vmms: 0,
    };
    let of = |config, memory| {
        let bounds = bounds(config, memory);
        (bounds.keep, bounds.max)
    };
    // An eighth of the memory, at 128 MiB each.
    for (memory, expected) in [
        (64 * GIB, (4, 20)),
        (8 * GIB, (4, 8)),
        (2 * GIB, (2, 2)),
        (GIB / 2, (0, 0)),
        (0, (0, 0)),
    ] {
        assert_eq!(of(config, memory), expected, "{memory}");
    }
    let given = PoolConfig {
        max_memory_mib: Some(1280),
        ..config
    };
    assert_eq!(of(given, GIB), (4, 10));
    assert_eq!(of(PoolConfig::OFF, 64 * GIB), (0, 0));
}

#[test]
fn a_lease_that_is_not_taken_is_given_back() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);
    let lease = || {
        Lease::new(VmId::generate(), |_vm| {
            GIVEN_BACK.fetch_add(1, Ordering::Relaxed);
        })
    };
    lease().take();
    assert_eq!(GIVEN_BACK.load(Ordering::Relaxed), 0);
    drop(lease());
    assert_eq!(GIVEN_BACK.load(Ordering::Relaxed), 1);
}
