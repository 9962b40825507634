use expect_test::expect;

use super::super::sample;
use super::*;

#[test]
fn a_report_is_a_table_of_measures_one_of_targets_and_its_notes() {
    expect![[r#"
        qemu 7.2.22 (tcg), 2 CPUs of AMD EPYC, 24 GiB, Linux 6.18.0, 2026-11-26:

        | measure (3 turns) | p50 | p95 | p99 | range | of its floor |
        |---|---|---|---|---|---|
        | restore by hand (floor) | 210.0 ms | 220.0 | 220.0 | 200.0 to 220.0 |  |
        | create | 231.0 ms | 4000 | 4000 | 230.5 to 4000 | 1.10 × |
        | memory \| of the server | 19.8 MiB | | | |  |
        | answered | 49 of 50 | | | |  |
        | podman | does not run here: crun: setrlimit: not permitted | | | | |

        | measure | target | reached | floor |
        |---|---|---|---|
        | create / floor | ≤ 1.15 | 1.10 | restore by hand (floor): 210.0 ms |
        | answered | ≥ 50 | 49, missed |  |
        | faster | ≥ 7 × | not measured: no runsc |  |

        Steps: ledger 0.20, disk 1.00.
    "#]]
    .assert_eq(&report(&sample::report()));
}

#[test]
fn numbers_have_the_digits_that_mean_something() {
    for (value, text) in [
        (0.0, "0.00"),
        (0.0271, "0.027"),
        (1.3661, "1.37"),
        (33.333, "33.3"),
        (1577.44, "1577"),
        (-3.2, "-3.20"),
    ] {
        assert_eq!(number(value), text);
    }
}
