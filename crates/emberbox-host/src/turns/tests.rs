use std::pin::pin;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::*;

/// The order in which those who wait are served, one at a time.
async fn order(turns: &Turns, asking: &[(&str, &'static str)]) -> Vec<&'static str> {
    let held = turns.enter(asking[0].0).now_or_never().unwrap();
    let mut line: FuturesUnordered<_> = asking
        .iter()
        .map(|&(party, name)| async move { (turns.enter(party).await, name) })
        .collect();
    // Everybody is in the line now.
    assert!(line.next().now_or_never().is_none());
    drop(held);
    let mut served = Vec::new();
    while let Some((admitted, name)) = line.next().await {
        served.push(name);
        assert!(line.is_empty() || line.next().now_or_never().is_none());
        drop(admitted);
    }
    served
}

#[tokio::test]
async fn parties_are_served_in_turn_and_each_in_order() {
    let turns = Turns::with_room(1);
    let asking = [
        ("one", "a1"),
        ("one", "a2"),
        ("one", "a3"),
        ("other", "b1"),
        ("third", "c1"),
        ("other", "b2"),
    ];
    let served = order(&turns, &asking).await;
    assert_eq!(served, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    // All the room is there again.
    assert!(turns.enter("one").now_or_never().is_some());
}

#[tokio::test]
async fn who_gives_up_takes_no_turn_along() {
    let turns = Turns::with_room(1);
    let held = turns.enter("one").await;
    {
        let mut gone = pin!(turns.enter("one"));
        assert!(gone.as_mut().now_or_never().is_none());
    }
    let mut waits = pin!(turns.enter("other"));
    assert!(waits.as_mut().now_or_never().is_none());
    {
        let mut served_and_gone = pin!(turns.enter("one"));
        assert!(served_and_gone.as_mut().now_or_never().is_none());
        drop(held);
        // It has its turn by now, and does not take it.
        assert!(waits.as_mut().now_or_never().is_none());
    }
    assert!(waits.as_mut().now_or_never().is_some());
}

#[tokio::test]
async fn room_is_bounded() {
    let turns = Turns::with_room(2);
    let _first = turns.enter("one").now_or_never().unwrap();
    let second = turns.enter("one").now_or_never().unwrap();
    assert!(turns.enter("one").now_or_never().is_none());
    drop(second);
    assert!(turns.enter("one").now_or_never().is_some());
}
