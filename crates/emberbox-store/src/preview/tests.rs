use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;

use super::*;
use crate::sandbox::tests::Fixture;

fn private(port: u16) -> NewPreview {
    NewPreview {
        visibility: Some(Visibility::Private),
        ..NewPreview::of(port)
    }
}

fn ago() -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(1)
}

#[tokio::test]
async fn a_port_has_one_preview() {
    let (fixture, sandbox) = Fixture::with_sandbox().await;
    let store = &fixture.store;
    let Exposed::New(made) = store.expose(&sandbox, &private(3000)).await.unwrap() else {
        panic!("it was there");
    };
    assert_eq!((made.port, made.visibility), (3000, Visibility::Private));
    // A bare expose does not open what was made private.
    let again = store.expose(&sandbox, &NewPreview::of(3000)).await.unwrap();
    let Exposed::Changed(again) = again else {
        panic!("{again:?}");
    };
    assert_eq!(
        (again.id, again.visibility),
        (made.id.clone(), Visibility::Private)
    );
    assert_eq!(store.list_previews(&sandbox).await.unwrap().len(), 1);

    let closed = store.close_preview(&sandbox, &made.id).await.unwrap();
    assert!(closed.unwrap().deleted_at.is_some());
    assert_eq!(store.close_preview(&sandbox, &made.id).await.unwrap(), None);
    assert_eq!(store.preview(&sandbox, &made.id).await.unwrap(), None);
    let shown = store.shown_ports(&sandbox).await.unwrap();
    assert!(shown.len() == 1 && !shown[0].is_active(Timestamp::now()));

    let anew = store.expose(&sandbox, &NewPreview::of(3000)).await.unwrap();
    let Exposed::New(anew) = anew else {
        panic!("{anew:?}");
    };
    assert_eq!(anew.visibility, Visibility::Public);
    assert_eq!(store.shown_ports(&sandbox).await.unwrap(), [anew]);
}

#[tokio::test]
async fn what_has_expired_makes_room() {
    let (fixture, sandbox) = Fixture::with_sandbox().await;
    let expired = NewPreview {
        expires_at: Some(ago()),
        ..NewPreview::of(80)
    };
    fixture.store.expose(&sandbox, &expired).await.unwrap();
    let listed = fixture.store.list_previews(&sandbox).await.unwrap();
    assert!(listed[0].has_expired(Timestamp::now()));
    let again = fixture.store.expose(&sandbox, &NewPreview::of(80)).await;
    assert!(matches!(again.unwrap(), Exposed::New(_)));
}

#[tokio::test]
async fn a_sandbox_has_so_many_previews_and_no_more() {
    let (fixture, sandbox) = Fixture::with_sandbox().await;
    for port in 1..=u16::try_from(PREVIEWS_MAX).unwrap() {
        let made = fixture.store.expose(&sandbox, &NewPreview::of(port)).await;
        assert!(matches!(made.unwrap(), Exposed::New(_)), "{port}");
    }
    let over = fixture.store.expose(&sandbox, &NewPreview::of(9999)).await;
    assert_eq!(over.unwrap(), Exposed::TooMany);
    let present = fixture.store.expose(&sandbox, &NewPreview::of(1)).await;
    assert!(matches!(present.unwrap(), Exposed::Changed(_)));
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let (fixture, sandbox) = Fixture::with_sandbox().await;
    let store = &fixture.store;
    let other = fixture.sandbox().await;
    let Exposed::New(preview) = store.expose(&sandbox, &private(3000)).await.unwrap() else {
        panic!("it was there");
    };
    let token = |kind, expires_at| NewToken { kind, expires_at };
    let one = token(TokenKind::Preview(preview.id.clone()), None);
    let first = store.create_preview_token(&sandbox, &one).await.unwrap();
    let one = store.create_preview_token(&sandbox, &one).await.unwrap();
    let all = store
        .create_preview_token(&sandbox, &token(TokenKind::Share, None))
        .await;
    let all = all.unwrap();
    let late = store
        .create_preview_token(&sandbox, &token(TokenKind::Token, Some(ago())))
        .await;
    let late = late.unwrap();

    let opens = async |sandbox: &SandboxId, port, made: &NewShare| {
        let secret = made.secret.expose_secret();
        store.opens_preview(sandbox, port, secret).await.unwrap()
    };
    assert!(!opens(&sandbox, 3000, &first).await, "it was replaced");
    assert!(opens(&sandbox, 3000, &one).await && !opens(&sandbox, 3001, &one).await);
    assert!(opens(&sandbox, 3000, &all).await && opens(&sandbox, 3001, &all).await);
    assert!(!opens(&sandbox, 3000, &late).await);
    assert!(!opens(&other, 3000, &all).await && !opens(&other, 3000, &one).await);

    let told = store.preview(&sandbox, &preview.id).await.unwrap().unwrap();
    assert_eq!(told.share_token_prefix.as_ref(), Some(&one.record.prefix));
    assert_eq!(
        store.list_shares(&sandbox).await.unwrap(),
        std::slice::from_ref(&all.record)
    );
    assert!(!store.revoke_share(&other, &all.record.id).await.unwrap());
    assert!(store.revoke_share(&sandbox, &all.record.id).await.unwrap());
    assert!(!opens(&sandbox, 3000, &all).await);
    assert!(
        store
            .revoke_preview_share(&sandbox, &preview.id)
            .await
            .unwrap()
    );
    assert!(!opens(&sandbox, 3000, &one).await);
}
