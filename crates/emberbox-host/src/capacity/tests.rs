use super::*;

#[test]
fn what_is_reserved_stays_free() {
    const GIB: u64 = 1 << 30;
    let free = |memory, disk| Free { memory, disk };
    let snapshot = Needs {
        memory: 0,
        disk: GIB,
    };
    for (needs, free, fits) in [
        (Needs::VM, free(GIB, GIB), true),
        (Needs::VM, free(GIB / 2, GIB), false),
        (Needs::VM, free(GIB, GIB - 1), false),
        (snapshot, free(0, 2 * GIB), true),
        (snapshot, free(GIB, 2 * GIB - 1), false),
        (
            Needs {
                memory: u64::MAX,
                disk: 0,
            },
            free(GIB, GIB),
            false,
        ),
    ] {
        assert_eq!(needs.fits(free), fits, "{needs:?} in {free:?}");
    }
}
