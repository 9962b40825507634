use super::BuildState::*;
use super::*;

/// The whole table, written out: what each change means in queued, building,
/// snapshotting, certifying, distributing, ready, failed, cancelled (the order
/// of `ALL`).
#[test]
fn the_table() {
    let (stay, deny) = (Advance::Stay, Advance::Deny);
    let to = Advance::To;
    let working = |state, queued, over| {
        let phase = to(state);
        [queued, phase, phase, phase, phase, over, over, over]
    };
    let table = [
        (BuildChange::Cancel, working(Cancelled, to(Cancelled), deny)),
        (
            BuildChange::Retry,
            [deny, deny, deny, deny, deny, deny, to(Queued), to(Queued)],
        ),
        (
            BuildChange::Entered(Building),
            [to(Building), stay, stay, stay, stay, stay, stay, stay],
        ),
        (
            BuildChange::Entered(Snapshotting),
            [
                to(Snapshotting),
                to(Snapshotting),
                stay,
                stay,
                stay,
                stay,
                stay,
                stay,
            ],
        ),
        (
            BuildChange::Entered(Certifying),
            [
                to(Certifying),
                to(Certifying),
                to(Certifying),
                stay,
                stay,
                stay,
                stay,
                stay,
            ],
        ),
        (
            BuildChange::Entered(Distributing),
            [
                to(Distributing),
                to(Distributing),
                to(Distributing),
                to(Distributing),
                stay,
                stay,
                stay,
                stay,
            ],
        ),
        (BuildChange::Entered(Queued), [stay; 8]),
        (BuildChange::Entered(Ready), [stay; 8]),
        (BuildChange::Entered(Failed), [stay; 8]),
        (BuildChange::Entered(Cancelled), [stay; 8]),
        (BuildChange::Finished, working(Ready, stay, stay)),
        (BuildChange::Failed, working(Failed, to(Failed), stay)),
        (BuildChange::Interrupted, working(Queued, stay, stay)),
    ];
    for (change, expected) in table {
        for (state, expected) in BuildState::ALL.into_iter().zip(expected) {
            assert_eq!(state.advance(change), expected, "{change:?} in {state}");
        }
    }
}

#[test]
fn names_round_trip() {
    for state in BuildState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    for code in BuildErrorCode::ALL {
        assert_eq!(code.as_str().parse(), Ok(*code));
    }
    assert!("Ready".parse::<BuildState>().is_err());
    assert!("".parse::<BuildErrorCode>().is_err());
}
