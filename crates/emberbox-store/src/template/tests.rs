use emberbox_core::BuildLimits;
use serde_json::json;

use super::*;
use crate::sandbox::tests::Fixture;

pub(crate) fn new(slug: &str) -> NewTemplate {
    let spec = json!({"from": "debian:bookworm", "startCmd": "serve", "previewPort": 8080});
    NewTemplate {
        slug: slug.to_owned(),
        name: slug.to_owned(),
        description: String::new(),
        metadata: Map::new(),
        spec: BuildSpec::parse(&spec, &BuildLimits::default()).unwrap(),
    }
}

#[tokio::test]
async fn a_slug_is_free_again_once_its_template_is_deleted() {
    let fixture = Fixture::new().await;
    let (store, caller) = (&fixture.store, fixture.caller());
    let made = store.insert_template(caller, &new("app"), 2).await.unwrap();
    let taken = store.insert_template(caller, &new("app"), 2).await;
    assert!(matches!(taken, Err(TemplateError::SlugTaken)));
    store.insert_template(caller, &new("b"), 2).await.unwrap();
    let over = store.insert_template(caller, &new("c"), 2).await;
    assert!(matches!(over, Err(TemplateError::LimitExceeded(2))));

    let by_slug = store.template(&caller.tenant, "app").await.unwrap();
    assert_eq!(by_slug.as_ref(), Some(&made));
    let by_id = store.template(&caller.tenant, made.id.as_str()).await;
    assert_eq!(by_id.unwrap(), Some(made.clone()));
    let nobody = TenantId::generate();
    assert_eq!(store.template(&nobody, "app").await.unwrap(), None);
    assert!(!store.delete_template(&nobody, &made.id).await.unwrap());

    assert!(
        store
            .delete_template(&caller.tenant, &made.id)
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete_template(&caller.tenant, &made.id)
            .await
            .unwrap()
    );
    assert_eq!(store.templates(&caller.tenant).await.unwrap().len(), 1);
    let again = store.insert_template(caller, &new("app"), 2).await.unwrap();
    assert_ne!(again.id, made.id);
}
