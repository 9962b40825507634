use emberbox_core::{Limits, Scope, Scopes};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::{
    Bounds, Caller, KeyEdit, KeyError, KeyKind, NewKey, NewPlace, NewSecret, NewTenant, Placed,
    Store, UserRemoval,
};

const MANY: u32 = 100;

struct Fixture {
    _dir: TempDir,
    store: Store,
    caller: Caller,
}

impl Fixture {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let secret = store.bootstrap().await.unwrap().secret.unwrap();
        let caller = store.authenticate(secret.expose_secret()).await.unwrap();
        Self {
            _dir: dir,
            store,
            caller: caller.unwrap(),
        }
    }

    async fn make(&self, new: NewKey) -> NewSecret {
        let made = self.store.create_key(&self.caller.tenant, new, MANY).await;
        made.unwrap()
    }

    async fn speaks(&self, made: &NewSecret) -> Option<Caller> {
        let secret = made.secret.expose_secret();
        self.store.authenticate(secret).await.unwrap()
    }

    async fn rotate(&self, made: &NewSecret, overlap_sec: i64) -> NewSecret {
        let overlap = SignedDuration::from_secs(overlap_sec);
        let rotated = self
            .store
            .rotate_key(&self.caller.tenant, &made.record.id, overlap)
            .await;
        rotated.unwrap()
    }
}

#[tokio::test]
async fn the_first_key_is_the_operators_and_others_are_a_tenants() {
    let fixture = Fixture::new().await;
    assert!(fixture.caller.scopes.allow(Scope::Admin));
    let made = fixture.make(NewKey::named("k")).await;
    let caller = fixture.speaks(&made).await.unwrap();
    assert_eq!(caller.scopes, Scopes::TENANT);
    assert_eq!(caller.user, fixture.caller.user);
}

#[tokio::test]
async fn a_replaced_secret_works_as_long_as_it_was_left() {
    let fixture = Fixture::new().await;
    let first = fixture.make(NewKey::named("k")).await;
    let second = fixture.rotate(&first, 60).await;
    assert_eq!(second.record.id, first.record.id);
    let old = fixture.speaks(&first).await.unwrap();
    let new = fixture.speaks(&second).await.unwrap();
    assert_eq!((old.generation, new.generation), (0, 1));
    assert_eq!((old.ends, new.ends), (second.record.previous_until, None));

    // Only the one before the present one is ever left any time.
    let third = fixture.rotate(&second, 60).await;
    assert!(fixture.speaks(&first).await.is_none());
    assert!(fixture.speaks(&second).await.is_some());
    let fourth = fixture.rotate(&third, 0).await;
    assert!(fixture.speaks(&third).await.is_none());
    assert!(fixture.speaks(&second).await.is_none());
    let caller = fixture.speaks(&fourth).await.unwrap();
    assert_eq!(caller.generation, 3);
    for (generation, works) in [(0, false), (2, false), (3, true), (4, false)] {
        let found = fixture.store.caller(&caller.key, generation).await.unwrap();
        assert_eq!(found.is_some(), works, "{generation}");
    }
}

#[tokio::test]
async fn a_revoked_key_is_neither_changed_nor_given_another_secret() {
    let fixture = Fixture::new().await;
    let made = fixture.make(NewKey::named("k")).await;
    let (tenant, key) = (&fixture.caller.tenant, &made.record.id);
    assert!(fixture.store.revoke_key(tenant, key).await.unwrap());
    let rotated = fixture.store.rotate_key(tenant, key, SignedDuration::ZERO);
    assert!(matches!(rotated.await, Err(KeyError::Revoked)));
    let edit = KeyEdit::default();
    let edited = fixture.store.change_key(tenant, key, &edit).await;
    assert!(matches!(edited, Err(KeyError::Revoked)));
    let caller = fixture.store.caller(key, 0).await.unwrap();
    assert!(caller.is_none());
}

#[tokio::test]
async fn changes_hold_at_once() {
    let fixture = Fixture::new().await;
    let made = fixture.make(NewKey::named("k")).await;
    let read: Scopes = [Scope::SandboxesRead].into_iter().collect();
    let edit = KeyEdit {
        name: Some("ci".to_owned()),
        scopes: Some(read),
        expires_at: None,
    };
    let tenant = &fixture.caller.tenant;
    let changed = fixture.store.change_key(tenant, &made.record.id, &edit);
    let changed = changed.await.unwrap();
    assert_eq!((changed.name.as_str(), changed.scopes), ("ci", read));
    assert_eq!(fixture.speaks(&made).await.unwrap().scopes, read);
    let over = KeyEdit {
        expires_at: Some(Some(Timestamp::now() - SignedDuration::from_secs(1))),
        ..KeyEdit::default()
    };
    let changed = fixture.store.change_key(tenant, &made.record.id, &over);
    changed.await.unwrap();
    assert!(fixture.speaks(&made).await.is_none());
}

#[tokio::test]
async fn a_key_speaks_for_a_user_and_a_workspace_of_its_own_tenant_only() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let other = NewTenant {
        name: "other".to_owned(),
        ..NewTenant::default()
    };
    let other = store.insert_tenant(&other).await.unwrap();
    let stranger = store.users(&other.id).await.unwrap().remove(0);
    let workspace = store.list_workspaces(&other.id).await.unwrap().remove(0);
    let for_user = NewKey {
        user: Some(stranger.id),
        ..NewKey::named("k")
    };
    let made = store
        .create_key(&fixture.caller.tenant, for_user, MANY)
        .await;
    assert!(matches!(made, Err(KeyError::NoUser)));
    let for_workspace = NewKey {
        bounds: Bounds {
            workspace: Some(workspace.id),
            end_user: None,
        },
        ..NewKey::named("k")
    };
    let made = store
        .create_key(&fixture.caller.tenant, for_workspace, MANY)
        .await;
    assert!(matches!(made, Err(KeyError::NoWorkspace)));
}

#[tokio::test]
async fn what_a_key_belonged_to_takes_it_along() {
    let fixture = Fixture::new().await;
    let (store, tenant) = (&fixture.store, &fixture.caller.tenant);
    let user = store.create_user(tenant, "ada", None, MANY).await.unwrap();
    let place = NewPlace {
        name: "Lab".to_owned(),
        slug: None,
        external_id: None,
    };
    let limits = Limits::default();
    let placed = store.create_workspace(tenant, &place, &limits).await;
    let Placed::New(workspace) = placed.unwrap() else {
        panic!("it was there");
    };
    let of_user = fixture
        .make(NewKey {
            user: Some(user.id.clone()),
            kind: KeyKind::Token,
            ..NewKey::named("t")
        })
        .await;
    let of_workspace = fixture
        .make(NewKey {
            bounds: Bounds {
                workspace: Some(workspace.id),
                end_user: Some("ada".to_owned()),
            },
            ..NewKey::named("k")
        })
        .await;
    let bound = fixture.speaks(&of_workspace).await.unwrap();
    assert_eq!(bound.bounds, of_workspace.record.bounds);
    assert_eq!(bound.home, workspace.id);
    assert!(bound.bounds.show(workspace.id, Some("ada")));
    assert!(!bound.bounds.show(workspace.id, Some("eve")));
    assert!(!bound.bounds.show(workspace.id, None));
    assert!(!bound.bounds.show(fixture.caller.home, Some("ada")));
    let tokens = store.list_keys(tenant, KeyKind::Token, None).await.unwrap();
    assert_eq!(tokens, std::slice::from_ref(&of_user.record));

    let removed = store.remove_user(tenant, &user.id).await.unwrap();
    assert_eq!(removed, UserRemoval::Done);
    assert!(fixture.speaks(&of_user).await.is_none());
    let last = store.remove_user(tenant, &fixture.caller.user).await;
    assert_eq!(last.unwrap(), UserRemoval::LastOne);
    store.delete_workspace(tenant, workspace.id).await.unwrap();
    assert!(fixture.speaks(&of_workspace).await.is_none());
}
