use super::super::report::{Figure, Reached};
use super::*;

/// Takes as long as it is told, or fails.
struct Told(Result<f64, &'static str>);

impl Peer for Told {
    fn run(&mut self, _job: Job) -> Result<Times> {
        match self.0 {
            Ok(removed) => Ok(Times {
                command: Some(removed / 2.0),
                removed,
            }),
            Err(reason) => bail!(reason),
        }
    }
}

fn found(gvisor: Result<f64, &'static str>) -> Findings {
    let mut gvisor = Place::ours(GVISOR, Told(gvisor));
    gvisor.whose = Whose::Theirs;
    let mut places = vec![Place::ours(EMBERBOX, Told(Ok(20.0))), gvisor];
    for counts in [false, true, true] {
        for place in &mut places {
            place.take(counts).expect("its turn");
        }
    }
    let doctor = json!({
        "engine": { "name": "qemu" },
        "firecracker": { "reason": "firecracker is not installed" },
    });
    findings(2, places, vec![200.0, 210.0], &doctor).expect("findings")
}

#[test]
fn peers_are_compared_by_their_medians() {
    let found = found(Ok(100.0));
    let reached: Vec<_> = found.targets.iter().map(|target| &target.reached).collect();
    // To the command's end here, to the removal there: 100 / 10.
    assert_eq!(reached, [&Reached::Figure(10.0), &Reached::Figure(10.0)]);
}

#[test]
fn a_peer_that_does_not_run_is_a_row_with_its_reason() {
    let found = found(Err("no ptrace"));
    let missing = |part: &str| {
        let row = found.rows.iter().find(|row| row.name.contains(part));
        match &row.expect("a row").figure {
            Figure::Missing { reason } => reason.clone(),
            figure => panic!("{part} has {figure:?}"),
        }
    };
    assert_eq!(missing("`true` in gVisor"), "no ptrace");
    assert_eq!(missing("print(1+1)\"` in gVisor"), "no ptrace");
    assert_eq!(missing("Firecracker"), "firecracker is not installed");
    for target in &found.targets {
        let Reached::Missing(reason) = &target.reached else {
            panic!("{target:?}");
        };
        assert!(reason.contains("no ptrace"), "{reason}");
    }
}

#[test]
fn that_ours_does_not_run_is_an_error() {
    let mut place = Place::ours(EMBERBOX, Told(Err("no capacity")));
    let error = place.take(true).expect_err("no turn");
    assert_eq!(format!("{error:#}"), "Emberbox, prepared: no capacity");
}
