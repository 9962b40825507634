use jiff::{SignedDuration, Timestamp};

use super::{Answer, Recalled};
use crate::sandbox::tests::{Fixture, at_most, new};
use crate::{InsertError, Inserted};

const BODY: [u8; 32] = [7; 32];

#[tokio::test]
async fn what_was_made_and_answered_is_recalled() {
    let fixture = Fixture::new().await;
    let once = fixture.once("k", BODY);
    assert_eq!(
        fixture.store.recall(&once).await.unwrap(),
        Recalled::Nothing
    );
    let inserted = fixture
        .store
        .insert_sandbox(fixture.caller(), &new(), Some(&once), &at_most(9))
        .await;
    let Inserted::New(record) = inserted.unwrap() else {
        panic!("nothing was there")
    };
    let made = record.id.to_string();
    assert_eq!(
        fixture.store.recall(&once).await.unwrap(),
        Recalled::Made(made.clone())
    );
    let answer = Answer {
        status: 201,
        body: Some(b"{}".to_vec()),
    };
    fixture.store.keep_answer(&once, &answer).await.unwrap();
    let made = Some(made);
    assert_eq!(
        fixture.store.recall(&once).await.unwrap(),
        Recalled::Answered { made, answer }
    );
}

#[tokio::test]
async fn another_body_is_another_request() {
    let fixture = Fixture::new().await;
    let once = fixture.once("k", BODY);
    let insert = async |once| {
        let store = &fixture.store;
        store
            .insert_sandbox(fixture.caller(), &new(), Some(once), &at_most(9))
            .await
    };
    insert(&once).await.unwrap();
    let other = fixture.once("k", [8; 32]);
    assert_eq!(
        fixture.store.recall(&other).await.unwrap(),
        Recalled::OtherBody
    );
    assert!(matches!(insert(&other).await, Err(InsertError::KeyReused)));
    // The same key elsewhere.
    let mut elsewhere = other.clone();
    elsewhere.key.scope = "POST /api/v1/sandboxes/x/fork".to_owned();
    assert!(matches!(
        insert(&elsewhere).await.unwrap(),
        Inserted::New(_)
    ));
}

#[tokio::test]
async fn a_day_later_it_was_never_said() {
    let fixture = Fixture::new().await;
    let once = fixture.once("k", BODY);
    let answer = Answer {
        status: 200,
        body: None,
    };
    fixture.store.keep_answer(&once, &answer).await.unwrap();
    let now = Timestamp::now();
    let later = |hours| now + SignedDuration::from_hours(hours);
    fixture.store.forget_old_requests(later(23)).await.unwrap();
    let recalled = fixture.store.recall(&once).await.unwrap();
    let made = None;
    assert_eq!(recalled, Recalled::Answered { made, answer });
    fixture.store.forget_old_requests(later(25)).await.unwrap();
    assert_eq!(
        fixture.store.recall(&once).await.unwrap(),
        Recalled::Nothing
    );
}
