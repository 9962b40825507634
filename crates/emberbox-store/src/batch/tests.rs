use super::*;
use crate::sandbox::tests::{Fixture, at_most, new};
use crate::{InsertError, Inserted};

async fn batch(fixture: &Fixture, count: u32) -> BatchId {
    let new = NewBatch {
        request: new(),
        count,
        concurrency: 2,
    };
    fixture
        .store
        .insert_batch(fixture.caller().clone(), new, None, &at_most(100))
        .await
        .unwrap()
        .id
}

async fn insert(fixture: &Fixture, id: &BatchId, position: u32) -> Result<Inserted, InsertError> {
    let item = NewSandbox {
        batch_item: Some((id.clone(), position)),
        ..new()
    };
    fixture
        .store
        .insert_sandbox(fixture.caller(), &item, None, &at_most(100))
        .await
}

#[tokio::test]
async fn an_item_gets_one_sandbox_whoever_asks() {
    let (fixture, _) = Fixture::with_sandbox().await;
    let id = batch(&fixture, 3).await;
    let Ok(Inserted::New(made)) = insert(&fixture, &id, 1).await else {
        panic!("not made");
    };
    let again = insert(&fixture, &id, 1).await.unwrap_err();
    assert!(matches!(again, InsertError::BatchItemTaken));
    let items = fixture.store.batch_items(&id, 10).await.unwrap();
    assert_eq!(items[1].sandbox, Some(made.id));
    let states: Vec<_> = items.iter().map(|item| item.state.as_str()).collect();
    assert_eq!(states, ["queued", "creating", "queued"]);
    let work = fixture.store.unsettled_batches().await.unwrap().remove(0);
    assert_eq!((work.id, &work.caller), (id, fixture.caller()));
    assert_eq!(work.request.shape, new().shape);
}

#[tokio::test]
async fn what_is_cancelled_or_settled_stays_so() {
    let (fixture, _) = Fixture::with_sandbox().await;
    let store = &fixture.store;
    let tenant = &fixture.caller().tenant;
    let id = batch(&fixture, 3).await;
    insert(&fixture, &id, 0).await.unwrap();
    store.settle_batch(&id).await.unwrap();
    assert_eq!(
        store.batch(tenant, &id).await.unwrap().unwrap().settled_at,
        None
    );
    assert!(store.cancel_batch(tenant, &id).await.unwrap());
    let refused = insert(&fixture, &id, 1).await.unwrap_err();
    assert!(matches!(refused, InsertError::BatchItemTaken));
    let failed = Some(("NO_CAPACITY", "no"));
    store
        .decide_batch_item(&id, 0, BatchItemState::Failed, failed)
        .await
        .unwrap();
    store
        .decide_batch_item(&id, 0, BatchItemState::Completed, None)
        .await
        .unwrap();
    store.settle_batch(&id).await.unwrap();
    let settled = store.batch(tenant, &id).await.unwrap().unwrap();
    assert!(settled.settled_at.is_some() && settled.cancelled_at.is_some());
    assert_eq!(settled.counts, [0, 0, 0, 1, 2]);
    assert_eq!(settled.count(BatchItemState::Cancelled), 2);
    assert!(store.unsettled_batches().await.unwrap().is_empty());

    let nobody = TenantId::generate();
    assert!(!store.cancel_batch(&nobody, &id).await.unwrap());
    assert_eq!(store.batch(&nobody, &id).await.unwrap(), None);
}
