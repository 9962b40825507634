//! A report for tests.

use super::machine::Machine;
use super::report::{Bound, Curves, Findings, Line, Report, Target};

/// With one of everything.
pub(super) fn report() -> Report {
    let mut findings = Findings::of("3 turns");
    let floor = findings
        .spread("restore by hand (floor)", "ms", vec![200.0, 210.0, 220.0])
        .expect("samples");
    let create = findings
        .against(&floor, "create", vec![230.5, 231.0, 4000.0])
        .expect("samples");
    findings.one("memory | of the server", "MiB", 19.84);
    findings.count("answered", 49, 50);
    findings.missing("podman", "crun: setrlimit:\nnot permitted");
    findings.targets = vec![
        Target::new(
            "create / floor",
            Bound::AtMost(1.15),
            "",
            create.over(&floor),
        )
        .beside(floor.as_floor()),
        Target::new("answered", Bound::AtLeast(50.0), "", 49.0),
        Target::missing("faster", Bound::AtLeast(7.0), "×", "no runsc"),
    ];
    findings.notes = vec!["Steps: ledger 0.20, disk 1.00.".to_owned()];
    findings.curves = vec![Curves {
        title: "first command".to_owned(),
        x: "% of all".to_owned(),
        y: "ms".to_owned(),
        lines: vec![Line {
            name: "at once".to_owned(),
            points: vec![(0.0, 1.0), (100.0, 9.0)],
        }],
    }];
    Report {
        bench: "create".to_owned(),
        machine: Machine::sample(),
        day: "2026-11-26".to_owned(),
        findings,
    }
}
