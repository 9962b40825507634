use emberbox_core::SandboxId;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::Store;
use crate::{Caller, KeyKind, NewKey};

async fn open(dir: &TempDir) -> Store {
    Store::open(&dir.path().join("db")).await.unwrap()
}

async fn bootstrapped(store: &Store) -> Caller {
    let secret = store.bootstrap().await.unwrap().secret.unwrap();
    let caller = store.authenticate(secret.expose_secret()).await.unwrap();
    caller.unwrap()
}

#[tokio::test]
async fn a_second_bootstrap_makes_nothing() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir).await.bootstrap().await.unwrap();
    let store = open(&dir).await;
    let second = store.bootstrap().await.unwrap();
    assert!(first.secret.is_some() && second.secret.is_none());
    assert_eq!(
        (first.tenant, first.user),
        (second.tenant.clone(), second.user)
    );
    let workspaces = store.list_workspaces(&second.tenant).await.unwrap();
    let projects = store.list_projects(&second.tenant, None).await.unwrap();
    assert_eq!((workspaces.len(), projects.len()), (1, 1));
    assert!(workspaces[0].is_default && projects[0].is_default);
}

#[tokio::test]
async fn secrets_are_kept_as_hashes_only() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let secret = store.bootstrap().await.unwrap().secret.unwrap();
    store.close().await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let secret = secret.expose_secret().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn only_valid_keys_speak_for_somebody() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let caller = bootstrapped(&store).await;
    let make = |expires_at| {
        let request = NewKey {
            expires_at,
            ..NewKey::named("k")
        };
        store.create_key(&caller.tenant, request, 10)
    };
    let hour = SignedDuration::from_hours(1);
    let expired = make(Some(Timestamp::now() - hour)).await.unwrap();
    let later = make(Some(Timestamp::now() + hour)).await.unwrap();
    let speaks = async |secret: &secrecy::SecretString| {
        store.authenticate(secret.expose_secret()).await.unwrap()
    };
    assert_eq!(speaks(&expired.secret).await, None);
    let found = speaks(&later.secret).await.unwrap();
    assert_eq!(
        (found.tenant, found.key),
        (caller.tenant.clone(), later.record.id.clone())
    );
    assert!(store.authenticate("nonsense").await.unwrap().is_none());

    assert!(
        store
            .revoke_key(&caller.tenant, &later.record.id)
            .await
            .unwrap()
    );
    assert!(
        store
            .revoke_key(&caller.tenant, &later.record.id)
            .await
            .unwrap()
    );
    assert_eq!(speaks(&later.secret).await, None);
    let listed = store
        .list_keys(&caller.tenant, KeyKind::Key, None)
        .await
        .unwrap();
    assert_eq!(listed.len(), 3);
    assert!(
        listed
            .iter()
            .any(|key| key.id == later.record.id && key.revoked_at.is_some())
    );
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let first = store.bootstrap().await.unwrap();
    let other = store.create_tenant("other").await.unwrap();
    assert_ne!(first.tenant, other.tenant);
    let keys = store
        .list_keys(&first.tenant, KeyKind::Key, None)
        .await
        .unwrap();
    assert!(!store.revoke_key(&other.tenant, &keys[0].id).await.unwrap());
    let nobodys = SandboxId::generate();
    assert!(
        store
            .sandbox(&other.tenant, &nobodys)
            .await
            .unwrap()
            .is_none()
    );
}
