use crate::sandbox::tests::Fixture;
use crate::{BillingTerms, CreditChange, CreditError, CreditKind, InsertError};
use emberbox_core::TenantId;

#[tokio::test]
async fn an_account_remembers_what_moved_it() {
    let (fixture, _) = Fixture::with_sandbox().await;
    let caller = fixture.caller();
    let change = |change| {
        fixture
            .store
            .change_credit(&caller.tenant, change, Some("why"), &caller.key)
    };
    assert_eq!(
        change(CreditChange::Grant(500))
            .await
            .unwrap()
            .balance_micro,
        500
    );
    assert_eq!(
        change(CreditChange::Adjust(-700))
            .await
            .unwrap()
            .balance_micro,
        -200
    );
    let refused = change(CreditChange::Adjust(i64::MIN)).await.unwrap_err();
    assert!(matches!(refused, CreditError::TooMuch));
    let entries = fixture
        .store
        .credit_entries(&caller.tenant, 10)
        .await
        .unwrap();
    let moved: Vec<_> = entries
        .iter()
        .map(|entry| (entry.kind, entry.amount_micro, entry.note.as_deref()))
        .collect();
    let expected = [
        (CreditKind::Adjustment, -700, Some("why")),
        (CreditKind::Grant, 500, Some("why")),
    ];
    assert_eq!(moved, expected);
    let nobody = TenantId::generate();
    let refused = fixture
        .store
        .change_credit(&nobody, CreditChange::Grant(1), None, &caller.key);
    assert!(matches!(refused.await.unwrap_err(), CreditError::NoTenant));
}

#[tokio::test]
async fn who_cannot_pay_gets_no_row() {
    let (fixture, _) = Fixture::with_sandbox().await;
    let caller = fixture.caller();
    let terms = BillingTerms {
        enforce: true,
        minimum_balance: 100,
        ..BillingTerms::default()
    };
    fixture.store.set_billing_terms(&terms).await.unwrap();
    let count = async || fixture.store.undestroyed_sandboxes().await.unwrap().len();
    for (granted, allowed) in [(0, false), (99, false), (1, true)] {
        if granted > 0 {
            let change = CreditChange::Grant(granted);
            let done = fixture
                .store
                .change_credit(&caller.tenant, change, None, &caller.key);
            done.await.unwrap();
        }
        let before = count().await;
        match fixture.try_sandbox().await {
            Ok(_) => assert!(allowed),
            Err(InsertError::InsufficientCredits(why)) => {
                assert!(!allowed);
                assert_eq!((why.balance_micro, why.minimum_micro), (granted, 100));
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(count().await, before + usize::from(allowed));
        let refused = fixture.store.cannot_pay(&caller.tenant).await.unwrap();
        assert_eq!(refused.is_none(), allowed);
    }
}
