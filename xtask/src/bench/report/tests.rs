use super::super::sample;
use super::*;

#[test]
fn a_report_outlives_its_file() {
    let report = sample::report();
    let text = serde_json::to_string(&report).expect("JSON");
    let read: Report = serde_json::from_str(&text).expect("a report");
    assert_eq!(read, report);
}

#[test]
fn a_measure_knows_how_it_stands_to_its_floor() {
    let row = &sample::report().findings.rows[1];
    let floor = row.floor.as_ref().expect("a floor");
    assert_eq!(floor.name, "restore by hand (floor)");
    assert!((floor.ratio - 1.1).abs() < 1e-9, "{floor:?}");
}

#[test]
fn targets_are_met_at_their_bound_and_not_beyond() {
    for (wanted, reached, met) in [
        (Bound::AtMost(3.0), 3.0, true),
        (Bound::AtMost(3.0), 3.1, false),
        (Bound::AtLeast(0.7), 0.7, true),
        (Bound::AtLeast(0.7), 0.69, false),
    ] {
        assert_eq!(
            Target::new("", wanted, "", reached).met(),
            met,
            "{wanted:?} {reached}"
        );
    }
    assert!(!Target::missing("", Bound::AtMost(3.0), "", "no engine").met());
}

#[test]
fn a_spread_needs_samples_and_takes_them_in_any_order() {
    assert!(Spread::of(Vec::new()).is_err());
    let spread = Spread::of((1..=101).rev().map(f64::from).collect()).expect("samples");
    let Spread {
        min,
        p50,
        p95,
        p99,
        max,
    } = spread;
    assert_eq!([min, p50, p95, p99, max], [1.0, 51.0, 96.0, 100.0, 101.0]);
}
