use super::SandboxState::*;
use super::*;

/// The whole table, written out: what each event means in
/// provisioning, running, paused, destroyed, error (the order of `ALL`).
#[test]
fn the_table() {
    let carry = |command| [Step::Carry(command); 5];
    let deny = |state| Step::Deny(Denied(state));
    let mut destroy = carry(Command::Destroy);
    destroy[3] = Step::Ignore;
    let table = [
        (Event::Command(Command::Destroy), destroy),
        (
            Event::Command(Command::Pause),
            [
                deny(Provisioning),
                Step::Carry(Command::Pause),
                Step::Ignore,
                deny(Destroyed),
                deny(Error),
            ],
        ),
        (
            Event::Command(Command::Resume),
            [
                deny(Provisioning),
                Step::Ignore,
                Step::Carry(Command::Resume),
                deny(Destroyed),
                deny(Error),
            ],
        ),
        (
            Event::Fact(Fact::Ready),
            [
                Step::To(Running),
                Step::Ignore,
                Step::To(Running),
                Step::Ignore,
                Step::Ignore,
            ],
        ),
        (
            Event::Fact(Fact::Paused),
            [
                Step::Ignore,
                Step::To(Paused),
                Step::Ignore,
                Step::Ignore,
                Step::Ignore,
            ],
        ),
        (
            Event::Fact(Fact::Failed),
            [
                Step::To(Error),
                Step::To(Error),
                Step::To(Error),
                Step::Ignore,
                Step::Ignore,
            ],
        ),
        (
            Event::Fact(Fact::Destroyed),
            [
                Step::To(Destroyed),
                Step::To(Destroyed),
                Step::To(Destroyed),
                Step::Ignore,
                Step::To(Destroyed),
            ],
        ),
    ];
    for (event, expected) in table {
        for (state, expected) in SandboxState::ALL.into_iter().zip(expected) {
            assert_eq!(step(state, event), expected, "{event:?} in {state}");
        }
    }
}

#[test]
fn nothing_leaves_destroyed() {
    for fact in [Fact::Ready, Fact::Paused, Fact::Failed, Fact::Destroyed] {
        assert_eq!(step(Destroyed, Event::Fact(fact)), Step::Ignore);
    }
}

#[test]
fn names_round_trip() {
    for state in SandboxState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert_eq!("creating".parse(), Ok(Provisioning));
    assert_eq!("Running".parse::<SandboxState>(), Err(UnknownState));
}
