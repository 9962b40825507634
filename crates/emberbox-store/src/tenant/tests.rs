use emberbox_core::TenantLimits;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

async fn open(dir: &TempDir) -> Store {
    let store = Store::open(&dir.path().join("db")).await.unwrap();
    store.bootstrap().await.unwrap();
    store
}

fn named(name: &str) -> NewTenant {
    NewTenant {
        name: name.to_owned(),
        ..NewTenant::default()
    }
}

#[tokio::test]
async fn slugs_are_labels_that_nobody_else_has() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let first = store.insert_tenant(&named("Acme Inc.")).await.unwrap();
    assert_eq!(first.slug, "acme-inc");
    let second = store.insert_tenant(&named("Acme Inc.")).await.unwrap();
    assert!(second.slug.starts_with("t-"), "{}", second.slug);
    for slug in ["acme-inc", RESERVED_SLUG, "default"] {
        let wish = NewTenant {
            slug: Some(slug.to_owned()),
            ..named("x")
        };
        let refused = store.insert_tenant(&wish).await;
        assert!(matches!(refused, Err(TenantError::SlugTaken)), "{slug}");
    }
    store.delete_tenant(&first.id).await.unwrap();
    assert_eq!(store.tenant(&first.id).await.unwrap(), None);
    let again = store.insert_tenant(&named("Acme Inc.")).await.unwrap();
    assert_eq!(again.slug, "acme-inc");
}

#[tokio::test]
async fn keys_of_a_deleted_tenant_are_nobodys() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let made = store.create_tenant("gone").await.unwrap();
    let secret = made.secret.unwrap();
    let caller = store.authenticate(secret.expose_secret()).await.unwrap();
    assert!(caller.is_some());
    store.delete_tenant(&made.tenant).await.unwrap();
    let caller = store.authenticate(secret.expose_secret()).await.unwrap();
    assert_eq!(caller, None);
    let twice = store.delete_tenant(&made.tenant).await;
    assert!(matches!(twice, Err(TenantError::NotFound)));
}

#[tokio::test]
async fn the_operators_tenant_stays() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let first = store.tenants().await.unwrap().remove(0);
    assert_eq!(store.operators_tenant().await.unwrap(), first.id);
    let deleted = store.delete_tenant(&first.id).await;
    assert!(matches!(deleted, Err(TenantError::First)));
    let suspend = TenantEdit {
        standing: Some(Standing::Suspended),
        ..TenantEdit::default()
    };
    let suspended = store.change_tenant(&first.id, &suspend).await;
    assert!(matches!(suspended, Err(TenantError::First)));
}

#[tokio::test]
async fn a_caller_comes_with_its_tenants_limits_and_standing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir).await;
    let made = store.create_tenant("acme").await.unwrap();
    let secret = made.secret.unwrap();
    let limits = TenantLimits {
        max_sandboxes: Some(2),
        ..TenantLimits::default()
    };
    let edit = TenantEdit {
        limits: Some(limits),
        standing: Some(Standing::Suspended),
        ..TenantEdit::default()
    };
    let changed = store.change_tenant(&made.tenant, &edit).await.unwrap();
    let caller = store.authenticate(secret.expose_secret()).await.unwrap();
    let caller = caller.unwrap();
    assert_eq!(
        (caller.limits, caller.suspended_at),
        (limits, changed.suspended_at)
    );
    assert!(caller.suspended_at.is_some());
    // Suspending twice does not move the time.
    let again = store.change_tenant(&made.tenant, &edit).await.unwrap();
    assert_eq!(again, changed);
    let back = TenantEdit {
        standing: Some(Standing::Active),
        ..TenantEdit::default()
    };
    let back = store.change_tenant(&made.tenant, &back).await.unwrap();
    assert_eq!((back.suspended_at, back.limits), (None, limits));
}
