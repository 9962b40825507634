//! Deployments: their records. What they serve is tested with previews.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::previews::{Site, ask, echo};
use crate::rig::{Rig, answer};

async fn deploy(rig: &Rig, id: &str, body: &Value) -> (u16, String, Value) {
    let path = format!("/sandboxes/{id}/deploy");
    answer(rig.request("POST", &path).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_lives_until_it_is_taken_down() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let body = json!({"name": "My App", "port": 8000, "custom_domain": "App.Example.com"});
    let (status, _, made) = deploy(&rig, id, &body).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["state"], "running");
    assert_eq!(made["id"], made["deployment_id"]);
    let (url, slug) = (
        made["url"].as_str().unwrap(),
        made["slug"].as_str().unwrap(),
    );
    assert!(
        slug.starts_with("my-app-") && slug.len() == "my-app-".len() + 6,
        "{slug}"
    );
    assert!(
        url.starts_with(&format!("http://{slug}.default.localhost:")),
        "{url}"
    );
    assert!(
        made["public_url"]
            .as_str()
            .unwrap()
            .starts_with("http://app.example.com:")
    );
    let kept = rig.client.get_sandbox(id).await.unwrap();
    assert!(kept.always_on, "its time is not counted any more");

    // Asked again it is the same one, with what is new.
    let (_, _, again) = deploy(&rig, id, &json!({"name": "My App", "port": 9000})).await;
    assert_eq!((&again["id"], &again["port"]), (&made["id"], &json!(9000)));
    let other = rig.sandbox().await;
    let moved = json!({"deployment_id": made["id"]});
    let (status, _, moved) = deploy(&rig, other.id.as_str(), &moved).await;
    assert_eq!(status, 201, "{moved}");
    assert_eq!(
        (&moved["url"], &moved["name"]),
        (&made["url"], &json!("My App"))
    );
    assert_eq!(
        (&moved["sandbox_id"], &moved["port"]),
        (&json!(other.id), &json!(80))
    );

    let path = format!("/deployments/{}", made["id"].as_str().unwrap());
    let (_, _, list) = answer(rig.request("GET", "/deployments")).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    rig.client.destroy_sandbox(other.id.as_str()).await.unwrap();
    let (_, _, stopped) = answer(rig.request("GET", &path)).await;
    assert_eq!(stopped["data"]["state"], "stopped");

    let foreign = rig.store.create_tenant("other").await.unwrap();
    let foreign = foreign.secret.unwrap();
    for method in ["GET", "DELETE"] {
        let theirs = rig
            .http
            .request(method.parse().unwrap(), format!("{}{path}", rig.url));
        let (status, _, _) = answer(theirs.bearer_auth(foreign.expose_secret())).await;
        assert_eq!(status, 404, "{method}");
    }
    assert_eq!(answer(rig.request("DELETE", &path)).await.0, 200);
    assert_eq!(answer(rig.request("DELETE", &path)).await.0, 404);
    assert_eq!(answer(rig.request("GET", &path)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deployed_is_refused() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let id = sandbox.id.as_str();
    let (status, _, _) = deploy(&rig, id, &json!({"name": "a", "domain": "a.example.com"})).await;
    assert_eq!(status, 201);
    for (body, status, code) in [
        (json!({}), 400, "MISSING_PARAM"),
        (json!({"name": "  "}), 400, "MISSING_PARAM"),
        (json!({"name": "b", "port": 0}), 422, "INVALID_PORT"),
        (json!({"name": "b", "port": 65536}), 422, "INVALID_PORT"),
        (json!({"name": "b", "port": 871}), 422, "INVALID_PORT"),
        (json!({"name": "x".repeat(300)}), 422, "VALIDATION_ERROR"),
        (
            json!({"name": "b", "domain": "not a domain"}),
            422,
            "VALIDATION_ERROR",
        ),
        (
            json!({"name": "b", "domain": "x.localhost"}),
            422,
            "VALIDATION_ERROR",
        ),
        (
            json!({"name": "b", "domain": "10.0.0.1"}),
            422,
            "VALIDATION_ERROR",
        ),
        (
            json!({"name": "b", "custom_domain": "nodots"}),
            422,
            "VALIDATION_ERROR",
        ),
        (
            json!({"name": "b", "domain": "A.example.com."}),
            409,
            "NAME_TAKEN",
        ),
        (json!({"deployment_id": "dep_nobody"}), 404, "NOT_FOUND"),
    ] {
        let (got, told, answer) = deploy(&rig, id, &body).await;
        assert_eq!((got, told.as_str()), (status, code), "{body}: {answer}");
    }
    let as_api = rig.request("POST", &format!("/sandboxes/{id}/deploy"));
    let as_api = as_api.header("host", "api.example.com:443");
    let (status, _, _) =
        answer(as_api.json(&json!({"name": "c", "domain": "api.example.com"}))).await;
    assert_eq!(status, 422, "the API's own name");
    rig.client.destroy_sandbox(id).await.unwrap();
    let (status, code, _) = deploy(&rig, id, &json!({"name": "late"})).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    let (_, _, list) = answer(rig.request("GET", "/deployments")).await;
    assert_eq!(
        list["data"].as_array().unwrap().len(),
        1,
        "refused ones leave nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_served_under_its_names_also_after_a_crash() {
    let site = Site::new().await;
    site.listen(8000, echo().await);
    let id = site.sandbox.id.to_string();
    let body = json!({"name": "shop", "port": 8000, "domain": "shop.example.com"});
    let (_, _, made) = deploy(&site.rig, &id, &body).await;
    let managed = format!("{}.default.localhost", made["slug"].as_str().unwrap());
    let asked = |rig: &Rig, host: &str| ask(rig, "GET", host, "/page").send();
    let check = async |rig: &Rig| {
        for host in [
            managed.as_str(),
            "shop.example.com",
            "SHOP.example.com:8080",
        ] {
            let answer = asked(rig, host).await.unwrap();
            assert_eq!(answer.status(), 200, "{host}");
            let told: Value = answer.json().await.unwrap();
            assert_eq!(told["target"], "/page", "{told}");
        }
    };
    check(&site.rig).await;
    // Names that are nobody's are the API's, which knows no such path.
    let nobody = asked(&site.rig, "other.default.localhost").await.unwrap();
    assert_eq!(nobody.status(), 404);

    let rig = site.rig.crash_and_restart().await;
    check(&rig).await;

    rig.client.destroy_sandbox(&id).await.unwrap();
    let stopped = ask(&rig, "GET", &managed, "/").header("accept", "text/html");
    let stopped = stopped.send().await.unwrap();
    assert_eq!(stopped.status(), 503);
    assert!(stopped.text().await.unwrap().contains("not running"));
    let path = format!("/deployments/{}", made["id"].as_str().unwrap());
    assert_eq!(answer(rig.request("DELETE", &path)).await.0, 200);
    assert_eq!(asked(&rig, &managed).await.unwrap().status(), 404);
}
