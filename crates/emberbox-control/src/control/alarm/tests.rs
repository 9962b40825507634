use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How long it waits.
async fn waited(alarm: &Alarm) -> Duration {
    let began = Instant::now();
    alarm.wait().await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_earliest_moment_counts() {
    let alarm = Alarm::default();
    for seconds in [5, 3, 9] {
        alarm.set(Instant::now() + SECOND * seconds);
    }
    assert_eq!(waited(&alarm).await.as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_an_earlier_one() {
    let alarm = Alarm::default();
    alarm.set(Instant::now() + SECOND * 60);
    let sooner = async {
        tokio::time::sleep(SECOND).await;
        alarm.set(Instant::now() + SECOND * 90);
        alarm.set(Instant::now() + SECOND);
    };
    let (waited, ()) = tokio::join!(waited(&alarm), sooner);
    assert_eq!(waited.as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_during_a_round_is_of_the_next() {
    let alarm = Alarm::default();
    alarm.now();
    alarm.wait().await;
    alarm.round_begins();
    alarm.set(Instant::now() + SECOND);
    alarm.set(Instant::now() + SECOND * 60);
    assert_eq!(waited(&alarm).await.as_secs(), 1);
    alarm.round_begins();
    let never = tokio::time::timeout(SECOND * 1000, alarm.wait()).await;
    assert!(never.is_err());
}
