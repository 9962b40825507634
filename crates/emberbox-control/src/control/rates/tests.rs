use super::*;

#[test]
fn an_allowance_is_used_up_and_says_when_it_is_not() {
    let rates = Rates::default();
    let (here, there) = (Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..6 {
        assert_eq!(rates.take(here, 6), Ok(()));
    }
    let wait = rates.take(here, 6).unwrap_err();
    // Six in a minute are one in ten seconds.
    assert!(wait > Duration::from_secs(9), "{wait:?}");
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    assert_eq!(rates.take(there, 6), Ok(()));
    // Another limit, another allowance.
    assert_eq!(rates.take(here, 7), Ok(()));
}

#[test]
fn zero_is_no_limit() {
    let rates = Rates::default();
    let workspace = Uuid::now_v7();
    assert!((0..10_000).all(|_| rates.take(workspace, 0).is_ok()));
    assert!(rates.0.read().unwrap().is_empty());
}

#[test]
fn what_is_full_again_is_forgotten() {
    let rates = Rates::default();
    // An allowance of so many is full again after a microsecond.
    let many = 60_000_000;
    for _ in 0..100 {
        rates.take(Uuid::now_v7(), many).unwrap();
    }
    rates.take(Uuid::now_v7(), 1).unwrap();
    std::thread::sleep(Duration::from_millis(1));
    rates.forget_full();
    let sizes = rates.0.read().unwrap();
    let left: Vec<_> = sizes
        .iter()
        .map(|(size, kept)| (size.get(), kept.len()))
        .collect();
    assert_eq!(left, [(1, 1)]);
}
