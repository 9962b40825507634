use super::*;

const BOUNDS: Bounds = Bounds {
    keep: 2,
    max: 8,
    idle: Duration::from_secs(600),
};

fn kind(image: &str) -> Kind {
    Kind {
        image: image.to_owned(),
        shape: Shape::DEFAULT,
    }
}

fn have(counts: &[(&str, usize)]) -> BTreeMap<Kind, usize> {
    let counts = counts.iter();
    counts.map(|(image, count)| (kind(image), *count)).collect()
}

fn seconds(since: Instant, seconds: u64) -> Instant {
    since + Duration::from_secs(seconds)
}

#[test]
fn nothing_is_prepared_that_nobody_asked_for() {
    let now = Instant::now();
    assert_eq!(
        Demand::default().next(&have(&[]), BOUNDS, now),
        Next::Nothing
    );
}

#[test]
fn a_kind_in_use_is_kept_until_it_is_idle_for_long() {
    let (mut demand, start) = (Demand::default(), Instant::now());
    demand.asked(&kind("a"), BOUNDS, start);
    for (there, after, next) in [
        (0, 0, Next::Prepare(kind("a"))),
        (1, 30, Next::Prepare(kind("a"))),
        (2, 30, Next::Nothing),
        (3, 30, Next::GiveUp(kind("a"))),
        (2, 600, Next::Nothing),
        (2, 601, Next::GiveUp(kind("a"))),
        (0, 601, Next::Nothing),
    ] {
        let now = seconds(start, after);
        let got = demand.next(&have(&[("a", there)]), BOUNDS, now);
        assert_eq!(got, next, "{there} after {after} s");
    }
}

#[test]
fn what_is_asked_for_often_is_prepared_in_number_and_within_bounds() {
    let (mut demand, start) = (Demand::default(), Instant::now());
    for _ in 0..5 {
        demand.asked(&kind("a"), BOUNDS, start);
    }
    let next = |demand: &Demand, there, after| {
        demand.next(&have(&[("a", there)]), BOUNDS, seconds(start, after))
    };
    assert_eq!(next(&demand, 4, 10), Next::Prepare(kind("a")));
    assert_eq!(next(&demand, 5, 10), Next::Nothing);
    // The rush is over: none is made, and none is removed for a while.
    assert_eq!(next(&demand, 3, 11), Next::Nothing);
    assert_eq!(next(&demand, 5, 120), Next::Nothing);
    assert_eq!(next(&demand, 5, 121), Next::GiveUp(kind("a")));
    for _ in 0..100 {
        demand.asked(&kind("a"), BOUNDS, start);
    }
    assert_eq!(next(&demand, 7, 0), Next::Prepare(kind("a")));
    assert_eq!(next(&demand, 8, 0), Next::Nothing);
}

#[test]
fn the_kind_asked_for_last_takes_the_room_of_others() {
    let (mut demand, start) = (Demand::default(), Instant::now());
    let bounds = Bounds { max: 3, ..BOUNDS };
    demand.asked(&kind("old"), bounds, start);
    demand.asked(&kind("new"), bounds, seconds(start, 1));
    let now = seconds(start, 2);
    let next = |counts: &[(&str, usize)]| demand.next(&have(counts), bounds, now);
    assert_eq!(next(&[("old", 2)]), Next::GiveUp(kind("old")));
    assert_eq!(next(&[("old", 1)]), Next::Prepare(kind("new")));
    assert_eq!(next(&[("old", 1), ("new", 2)]), Next::Nothing);
}

#[test]
fn a_kind_that_failed_rests_and_others_go_on() {
    let (mut demand, start) = (Demand::default(), Instant::now());
    demand.asked(&kind("good"), BOUNDS, start);
    demand.asked(&kind("bad"), BOUNDS, start + Duration::from_millis(1));
    demand.rest(&kind("bad"), seconds(start, 5));
    let next =
        |after, counts: &[(&str, usize)]| demand.next(&have(counts), BOUNDS, seconds(start, after));
    assert_eq!(next(1, &[]), Next::Prepare(kind("good")));
    assert_eq!(next(1, &[("good", 2)]), Next::Nothing);
    assert_eq!(next(5, &[("good", 2)]), Next::Prepare(kind("bad")));
}

#[test]
fn kinds_that_were_forgotten_are_given_up() {
    let (mut demand, start) = (Demand::default(), Instant::now());
    demand.asked(&kind("first"), BOUNDS, start);
    for number in 0..MAX_KINDS {
        demand.asked(&kind(&number.to_string()), BOUNDS, seconds(start, 1));
    }
    let next = demand.next(&have(&[("first", 1)]), BOUNDS, seconds(start, 1));
    assert_eq!(next, Next::GiveUp(kind("first")));
}
