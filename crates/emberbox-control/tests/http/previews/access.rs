//! Who may see what: previews, links, tokens, domains.

use emberbox_api::Sandbox;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{Site, address, ask, canned, echo, header};
use crate::rig::{Rig, answer};

async fn call(site: &Site, method: &str, path: &str, body: &Value) -> (u16, String, Value) {
    let path = format!("/sandboxes/{}{path}", site.sandbox.id);
    answer(site.rig.request(method, &path).json(body)).await
}

async fn made(site: &Site, path: &str, body: &Value) -> Value {
    let (status, _, told) = call(site, "POST", path, body).await;
    assert!(status == 200 || status == 201, "{told}");
    told["data"].clone()
}

/// Path and query of an address.
fn target(url: &Value) -> String {
    let url = reqwest::Url::parse(url.as_str().unwrap()).unwrap();
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

async fn status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn previews_are_made_listed_changed_and_deleted() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let request = json!({"port": 3000, "label": "app", "metadata": {"a": 1}, "ttl_seconds": 60});
    let preview = made(&site, "/previews", &request).await;
    assert_eq!(preview["sandbox_id"], site.sandbox.id.as_str());
    for (field, value) in [
        ("port", json!(3000)),
        ("visibility", json!("public")),
        ("state", json!("active")),
        ("name", json!("app")),
        ("metadata", json!({"a": 1})),
        ("share_token_prefix", Value::Null),
    ] {
        assert_eq!(preview[field], value, "{field}");
    }
    let port = address(&site.rig).rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(preview["url"], format!("http://{}:{port}", site.host(3000)));
    let again = json!({"port": 3000, "visibility": "private"});
    let (code, _, changed) = call(&site, "POST", "/previews", &again).await;
    assert_eq!((code, &changed["data"]["id"]), (200, &preview["id"]));
    assert_eq!(
        (&changed["data"]["visibility"], &changed["data"]["name"]),
        (&json!("private"), &json!("app"))
    );

    let path = format!("/previews/{}", preview["id"].as_str().unwrap());
    let (_, _, read) = call(&site, "GET", &path, &json!({})).await;
    let (_, _, listed) = call(&site, "GET", "/previews", &json!({})).await;
    assert_eq!(listed["data"], json!([read["data"]]));
    let (code, _, deleted) = call(&site, "DELETE", &path, &json!({})).await;
    assert_eq!((code, &deleted["data"]["state"]), (200, &json!("deleted")));
    for method in ["GET", "DELETE"] {
        let (code, name, _) = call(&site, method, &path, &json!({})).await;
        assert_eq!((code, name.as_str()), (404, "NOT_FOUND"));
    }
    // What was deleted is shown to nobody, until it is exposed again.
    assert_eq!(status(site.ask("GET", 3000, "/")).await, 404);
    call(&site, "POST", "/expose", &json!({"port": 3000})).await;
    assert_eq!(status(site.ask("GET", 3000, "/")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_wrong_name_their_fields() {
    let site = Site::new().await;
    let preview = made(&site, "/previews", &json!({"port": 1})).await;
    let share = format!("/previews/{}/share", preview["id"].as_str().unwrap());
    for (path, body, code, field) in [
        ("/previews", json!({"port": 0}), "INVALID_PORT", ""),
        ("/previews", json!({}), "MISSING_PARAM", ""),
        (
            "/previews",
            json!({"port": 1, "visibility": "secret"}),
            "VALIDATION_ERROR",
            "visibility",
        ),
        (
            "/previews",
            json!({"port": 1, "name": ""}),
            "VALIDATION_ERROR",
            "name",
        ),
        (
            "/previews",
            json!({"port": 1, "name": "a\nb"}),
            "VALIDATION_ERROR",
            "name",
        ),
        (
            "/previews",
            json!({"port": 1, "ttl_seconds": 0}),
            "VALIDATION_ERROR",
            "ttl_seconds",
        ),
        (
            "/previews",
            json!({"port": 1, "metadata": {"a": "x".repeat(20_000)}}),
            "VALIDATION_ERROR",
            "metadata",
        ),
        (
            share.as_str(),
            json!({"ttl_seconds": -1}),
            "VALIDATION_ERROR",
            "ttl_seconds",
        ),
        (
            "/shares",
            json!({"scope": "write"}),
            "VALIDATION_ERROR",
            "scope",
        ),
        (
            "/shares",
            json!({"expires_in": i64::MAX}),
            "VALIDATION_ERROR",
            "expires_in",
        ),
        (
            "/preview-token",
            json!({"expires_in": "soon"}),
            "VALIDATION_ERROR",
            "expires_in",
        ),
        ("/previews/pvw_nobody/share", json!({}), "NOT_FOUND", ""),
    ] {
        let (_, told, answer) = call(&site, "POST", path, &body).await;
        assert_eq!(told, code, "{path} {body}");
        if !field.is_empty() {
            assert_eq!(answer["error"]["details"][0]["field"], field, "{answer}");
        }
    }
    let (code, _, _) = call(&site, "DELETE", "/shares/shr_nobody", &json!({})).await;
    assert_eq!(code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_preview_is_seen_with_its_link_only() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let preview = made(
        &site,
        "/previews",
        &json!({"port": 3000, "visibility": "private"}),
    )
    .await;
    let (code, name, _) = answer(site.ask("GET", 3000, "/")).await;
    assert_eq!((code, name.as_str()), (401, "PREVIEW_TOKEN_REQUIRED"));
    let path = format!("/previews/{}/share", preview["id"].as_str().unwrap());
    let shared = made(&site, &path, &json!({"ttl_seconds": 60})).await;
    let token = shared["preview_token"].as_str().unwrap();
    assert!(token.starts_with("mp_"));
    let prefix = shared["preview"]["share_token_prefix"].as_str().unwrap();
    assert!(token.starts_with(prefix) && prefix.len() < token.len() / 2);

    // A program sends a header, which the guest does not see.
    let request = site.ask("GET", 3000, "/").header("x-preview-token", token);
    let told: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(!told.to_string().contains(token), "{told}");
    // A browser follows the link, and keeps it as a cookie.
    let browser = reqwest::Client::builder()
        .redirect(Policy::none())
        .build()
        .unwrap();
    let url = format!(
        "http://{}{}&x=1",
        address(&site.rig),
        target(&shared["share_url"])
    );
    // Anything but a page gets its answer at once.
    let path = target(&shared["share_url"]);
    assert_eq!(status(site.ask("GET", 3000, &path)).await, 200);
    let kept = browser
        .get(url)
        .header("accept", "text/html")
        .header("host", site.host(3000))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (kept.status().as_u16(), &kept.headers()["location"]),
        (303, &"/?x=1".parse().unwrap())
    );
    let cookie = kept.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly") && !cookie.contains("Domain"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let request = || {
        site.ask("GET", 3000, "/")
            .header("cookie", format!("own=1; {cookie}"))
    };
    let told: Value = request().send().await.unwrap().json().await.unwrap();
    assert_eq!(header(&told, "cookie"), ["own=1"]);
    // A form cannot be sent again by a redirect.
    let path = format!("/?mt={token}&x=1");
    let told: Value = site
        .ask("POST", 3000, &path)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&told["method"], &told["target"]),
        (&json!("POST"), &json!("/?x=1"))
    );

    for wrong in ["mp_wrong", "", "a b", &token.to_uppercase()] {
        let request = site.ask("GET", 3000, "/").header("x-preview-token", wrong);
        assert_eq!(status(request).await, 401, "{wrong}");
    }
    let path = format!("/previews/{}/share", preview["id"].as_str().unwrap());
    let (code, _, _) = answer_empty(&site, "DELETE", &path).await;
    assert_eq!(code, 204);
    assert_eq!(status(request()).await, 401);
}

async fn answer_empty(site: &Site, method: &str, path: &str) -> (u16, (), ()) {
    let path = format!("/sandboxes/{}{path}", site.sandbox.id);
    (status(site.rig.request(method, &path)).await, (), ())
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_and_tokens_open_every_preview_of_one_sandbox() {
    let site = Site::new().await;
    for port in [3000, 8000] {
        site.listen(port, echo().await);
        made(
            &site,
            "/previews",
            &json!({"port": port, "visibility": "private"}),
        )
        .await;
    }
    let share = made(&site, "/shares", &json!({"scope": "read"})).await;
    let token = made(&site, "/preview-token", &json!({"expires_in": 60})).await;
    assert!(
        token["url"]
            .as_str()
            .unwrap()
            .ends_with(token["token"].as_str().unwrap())
    );
    let of_share = share["share_url"]
        .as_str()
        .unwrap()
        .split("mt=")
        .nth(1)
        .unwrap();
    for secret in [of_share, token["token"].as_str().unwrap()] {
        for port in [Some(3000), Some(8000), None] {
            let request = site.ask("GET", port, "/").header("x-preview-token", secret);
            assert_eq!(status(request).await, 200, "{port:?}");
        }
    }
    let (_, _, listed) = call(&site, "GET", "/shares", &json!({})).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["share_id"], share["share_id"]);
    assert_eq!(listed["data"][0]["share_url"], Value::Null);

    let other = site.rig.sandbox().await;
    let private = json!({"port": 3000, "visibility": "private"});
    let path = format!("/sandboxes/{}/previews", other.id);
    answer(site.rig.request("POST", &path).json(&private)).await;
    let request = ask(&site.rig, "GET", &super::host(&other, 3000), "/");
    assert_eq!(
        status(request.header("x-preview-token", of_share)).await,
        401
    );
    let path = format!("/shares/{}", share["share_id"].as_str().unwrap());
    assert_eq!(answer_empty(&site, "DELETE", &path).await.0, 204);
    let request = site
        .ask("GET", 3000, "/")
        .header("x-preview-token", of_share);
    assert_eq!(status(request).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_connected_before_access_is_decided() {
    let site = Site::new().await;
    let (server, opened) = super::app(axum::Router::new()).await;
    site.listen(3000, server);
    made(
        &site,
        "/previews",
        &json!({"port": 3000, "visibility": "private"}),
    )
    .await;
    assert_eq!(status(site.ask("GET", 3000, "/")).await, 401);
    let upgrade = site
        .ask("GET", 3000, "/")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(status(upgrade).await, 401);
    assert_eq!(opened.load(std::sync::atomic::Ordering::SeqCst), 0);
}

async fn set_domain(rig: &Rig, key: &str, domain: &Value) -> (u16, String) {
    let request = rig
        .http
        .put(format!("{}/preview-domain", rig.url))
        .bearer_auth(key);
    let (status, code, _) = answer(request.json(&json!({"domain": domain}))).await;
    (status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_a_domain_of_its_own() {
    let site = Site::new().await;
    site.listen(
        3000,
        canned("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmine").await,
    );
    let own = site.rig.key.expose_secret();
    let other = site
        .rig
        .store
        .create_tenant("other")
        .await
        .unwrap()
        .secret
        .unwrap();
    let other = other.expose_secret();
    assert_eq!(
        set_domain(&site.rig, own, &json!("Apps.Example.com"))
            .await
            .0,
        200
    );
    assert_eq!(
        set_domain(&site.rig, other, &json!("b.example.com"))
            .await
            .0,
        200
    );
    for domain in [
        "apps.example.com",
        "localhost",
        "x.localhost",
        "a..b",
        "",
        "a:80",
        "é.de",
    ] {
        let refused = set_domain(&site.rig, other, &json!(domain)).await;
        assert_eq!(refused, (422, "VALIDATION_ERROR".to_owned()), "{domain}");
    }
    let (_, _, told) = call(&site, "POST", "/expose", &json!({"port": 3000})).await;
    let name = format!("3000-{}.sandbox.apps.example.com", site.sandbox.slug);
    assert!(told["url"].as_str().unwrap().contains(&name), "{told}");
    let sandbox: Sandbox = site
        .rig
        .client
        .get_sandbox(site.sandbox.id.as_str())
        .await
        .unwrap();
    let short = format!("http://{}.sandbox.apps.example.com:", sandbox.slug);
    assert!(sandbox.preview_url.unwrap().starts_with(&short));

    assert_eq!(status(ask(&site.rig, "GET", &name, "/")).await, 200);
    assert_eq!(
        status(site.ask("GET", 3000, "/")).await,
        200,
        "the platform's name goes on"
    );
    let theirs = format!("3000-{}.sandbox.b.example.com", site.sandbox.slug);
    let (code, told, _) = answer(ask(&site.rig, "GET", &theirs, "/")).await;
    assert_eq!((code, told.as_str()), (404, "NOT_FOUND"));

    assert_eq!(set_domain(&site.rig, own, &Value::Null).await.0, 200);
    let (code, told, _) = answer(ask(&site.rig, "GET", &name, "/")).await;
    assert_eq!(
        (code, told.as_str()),
        (404, "ROUTE_NOT_FOUND"),
        "it is the API's again"
    );
    assert_eq!(
        set_domain(&site.rig, other, &json!("apps.example.com"))
            .await
            .0,
        200
    );
}
