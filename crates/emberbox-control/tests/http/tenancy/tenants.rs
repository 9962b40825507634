//! Tenants and users, as operators manage them.

use emberbox_api::{CreateApiKey, CreateTenant, OwnLimits};
use serde_json::{Value, json};

use super::Who;
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_a_tenant_and_hands_out_its_key() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let client = operator.client();
    let request = CreateTenant {
        name: "Acme Inc.".to_owned(),
        ..CreateTenant::default()
    };
    let tenant = client.create_tenant(&request).await.unwrap();
    assert_eq!(
        (tenant.slug.as_str(), tenant.limits),
        ("acme-inc", OwnLimits::default())
    );
    let key = CreateApiKey {
        name: Some("first".to_owned()),
        ..CreateApiKey::default()
    };
    let made = client
        .create_key_of(tenant.id.as_str(), &key)
        .await
        .unwrap();
    let owner = Who {
        rig: &rig,
        key: made.key.clone().into(),
    };
    let me = owner.client().whoami().await.unwrap();
    assert_eq!((&me.tenant_id, &me.api_key_id), (&tenant.id, &made.info.id));
    let users = client.users(tenant.id.as_str()).await.unwrap();
    assert_eq!(me.user_id, users[0].id);
    let listed = client.keys_of(tenant.id.as_str()).await.unwrap();
    assert_eq!(listed, [made.info]);
    assert_eq!(client.tenants().await.unwrap().len(), 2);

    let path = format!("/admin/tenants/{}", tenant.id);
    for (body, code) in [
        (
            json!({"name": "x", "slug": "acme-inc"}),
            (409, "NAME_TAKEN"),
        ),
        (
            json!({"name": "x", "slug": "sandbox"}),
            (422, "VALIDATION_ERROR"),
        ),
        (
            json!({"name": "x", "slug": "Acme"}),
            (422, "VALIDATION_ERROR"),
        ),
        (json!({"name": ""}), (422, "VALIDATION_ERROR")),
        (
            json!({"name": "x", "limits": {"max_vcpus": 0}}),
            (422, "VALIDATION_ERROR"),
        ),
        (
            json!({"name": "x", "limits": {"max_memory_mib": -1}}),
            (422, "VALIDATION_ERROR"),
        ),
        (
            json!({"name": "x", "limits": {"max_sandbox": 1}}),
            (422, "VALIDATION_ERROR"),
        ),
    ] {
        operator
            .post("/admin/tenants", body)
            .await
            .refused(code.0, code.1);
    }
    for (method, rest) in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/users"),
        ("POST", "/users"),
        ("GET", "/api-keys"),
        ("POST", "/api-keys"),
    ] {
        let asked = owner.request(method, &format!("{path}{rest}"));
        super::Reply::to(asked)
            .await
            .refused(403, "INSUFFICIENT_SCOPE");
        let nobody = format!("/admin/tenants/tnt_nobody{rest}");
        let asked = operator.request(method, &nobody);
        super::Reply::to(asked).await.refused(404, "NOT_FOUND");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_refused_and_loses_nothing() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let acme = Who::of_another_tenant(&rig, "acme").await;
    let me = acme.get("/whoami").await.ok(200);
    let path = format!(
        "/admin/tenants/{}",
        me["data"]["tenant_id"].as_str().unwrap()
    );
    let id = acme.sandbox(json!({})).await;
    let events = acme.request("GET", &format!("/sandboxes/{id}/events"));
    let stream = events.send().await.unwrap();

    let suspended = operator
        .patch(&path, json!({"suspended": true}))
        .await
        .ok(200);
    assert!(suspended["data"]["suspended_at"].is_string());
    for path in ["/whoami", "/sandboxes"] {
        acme.get(path).await.refused(403, "TENANT_SUSPENDED");
    }
    let end = tokio::time::timeout(crate::rig::PATIENCE, stream.bytes());
    end.await.expect("its streams end").unwrap();
    assert_eq!(rig.fleet.running().len(), 1);
    operator.delete(&path).await.refused(409, "RESOURCE_IN_USE");
    operator
        .patch(&path, json!({"suspended": false}))
        .await
        .ok(200);
    let kept = acme.get(&format!("/sandboxes/{id}")).await.ok(200);
    assert_eq!(kept["state"], "running");

    acme.delete(&format!("/sandboxes/{id}")).await.ok(200);
    operator.delete(&path).await.ok(204);
    acme.get("/whoami").await.refused(401, "UNAUTHORIZED");
    operator.get(&path).await.refused(404, "NOT_FOUND");

    let own = operator.get("/whoami").await.ok(200);
    let own = format!(
        "/admin/tenants/{}",
        own["data"]["tenant_id"].as_str().unwrap()
    );
    let suspend = json!({"suspended": true});
    operator
        .patch(&own, suspend)
        .await
        .refused(409, "RESOURCE_IN_USE");
    operator.delete(&own).await.refused(409, "RESOURCE_IN_USE");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_come_and_go() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let acme = Who::of_another_tenant(&rig, "acme").await;
    let me = acme.get("/whoami").await.ok(200);
    let tenant = format!(
        "/admin/tenants/{}",
        me["data"]["tenant_id"].as_str().unwrap()
    );
    let users = format!("{tenant}/users");
    let ada = json!({"name": "Ada", "email": "ada@example.com"});
    let ada = operator.post(&users, ada).await.ok(201);
    let id = ada["data"]["id"].as_str().unwrap();
    let key = operator
        .post(&format!("{tenant}/api-keys"), json!({"user_id": id}))
        .await
        .ok(201);
    let key = acme.with(&key["data"]["key"]);
    let sandbox = key.post("/sandboxes", json!({})).await.ok(201);
    assert_eq!(sandbox["owner_id"], id);
    operator
        .post(&users, json!({}))
        .await
        .refused(422, "VALIDATION_ERROR");

    operator.delete(&format!("{users}/{id}")).await.ok(204);
    key.get("/whoami").await.refused(401, "UNAUTHORIZED");
    operator
        .delete(&format!("{users}/{id}"))
        .await
        .refused(404, "NOT_FOUND");
    let left = operator.get(&users).await.ok(200);
    assert_eq!(left["data"].as_array().unwrap().len(), 1);
    let last = left["data"][0]["id"].as_str().unwrap();
    operator
        .delete(&format!("{users}/{last}"))
        .await
        .refused(409, "RESOURCE_IN_USE");
    let stays = acme
        .get(&format!("/sandboxes/{}", sandbox["id"].as_str().unwrap()))
        .await;
    assert_eq!(stays.ok(200)["owner_id"], id);
    assert_ne!(left["data"][0]["email"], Value::from("ada@example.com"));
}
