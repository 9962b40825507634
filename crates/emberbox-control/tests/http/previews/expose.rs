//! Which address a port is told under, and which port an address means.

use serde_json::{Value, json};

use super::{Site, canned, echo};
use crate::rig::{Rig, answer};

fn body(name: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}",
        name.len()
    )
}

async fn expose(site: &Site, request: &Value) -> (u16, String, Value) {
    let path = format!("/sandboxes/{}/expose", site.sandbox.id);
    answer(site.rig.request("POST", &path).json(request)).await
}

fn url(site: &Site, host: &str) -> String {
    let port = super::address(&site.rig)
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    format!("http://{host}:{port}")
}

async fn shown(site: &Site) -> String {
    let response = site.ask("GET", None, "/").send().await.unwrap();
    response.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_exposed() {
    let site = Site::new().await;
    for port in [1, 80, 3000, 5173, 65535] {
        let (status, _, told) = expose(&site, &json!({"port": port})).await;
        assert_eq!(status, 200);
        let url = url(&site, &site.host(port));
        assert_eq!(told, json!({"url": url, "preview_url": url}));
    }
    let (_, code, _) = expose(&site, &json!({})).await;
    assert_eq!(code, "MISSING_PARAM");
    let path = format!("/sandboxes/{}/expose", site.sandbox.id);
    let (status, code, _) = answer(site.rig.request("POST", &path)).await;
    assert_eq!((status, code.as_str()), (400, "MISSING_PARAM"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_templates_own_port_has_the_short_address() {
    let site = Site::of_template("nextjs").await;
    let short = url(&site, &site.host(None));
    assert_eq!(site.sandbox.preview_url.as_ref(), Some(&short));
    for request in [json!({}), json!({"port": null}), json!({"port": 3000})] {
        let (status, _, told) = expose(&site, &request).await;
        assert_eq!((status, &told["url"]), (200, &json!(short)), "{request}");
    }
    // Whatever else is exposed, the short address keeps its meaning.
    expose(&site, &json!({"port": 8080})).await;
    site.listen(3000, canned(body("three thousand")).await);
    site.listen(8080, canned(body("eighty eighty")).await);
    assert_eq!(shown(&site).await, "three thousand");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_port_of_its_own_the_usual_ones_are_tried() {
    let site = Site::new().await;
    site.listen(3000, canned(body("3000")).await);
    site.listen(8080, canned(body("8080")).await);
    assert_eq!(shown(&site).await, "3000");
    // The one exposed last counts, but only among the usual ones.
    expose(&site, &json!({"port": 3000})).await;
    expose(&site, &json!({"port": 8080})).await;
    expose(&site, &json!({"port": 9999})).await;
    assert_eq!(shown(&site).await, "8080");
    expose(&site, &json!({"port": 3000})).await;
    assert_eq!(shown(&site).await, "3000");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_are_none() {
    let site = Site::new().await;
    let agent = emberbox_guest::PORT;
    for port in [
        json!(0),
        json!(-1),
        json!(65536),
        json!(1e30),
        json!(3000.5),
        json!("3000"),
        json!(true),
        json!([3000]),
        json!({}),
        json!(agent),
    ] {
        let (status, code, _) = expose(&site, &json!({ "port": port })).await;
        assert_eq!((status, code.as_str()), (422, "INVALID_PORT"), "{port}");
    }
    let path = format!("/sandboxes/{}/expose", site.sandbox.id);
    let (status, code, _) = answer(site.rig.request("POST", &path).body("{")).await;
    assert_eq!((status, code.as_str()), (400, "INVALID_JSON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_runs_is_exposed_and_only_by_its_owner() {
    let site = Site::new().await;
    site.listen(3000, echo().await);
    let other = site.rig.store.create_tenant("other").await.unwrap();
    let secret = secrecy::ExposeSecret::expose_secret(other.secret.as_ref().unwrap()).to_owned();
    let path = format!("{}/sandboxes/{}/expose", site.rig.url, site.sandbox.id);
    let request = site
        .rig
        .http
        .post(path)
        .bearer_auth(secret)
        .json(&json!({"port": 1}));
    let (status, code, _) = answer(request).await;
    assert_eq!((status, code.as_str()), (404, "NOT_FOUND"));

    site.rig
        .client
        .destroy_sandbox(site.sandbox.id.as_str())
        .await
        .unwrap();
    let (status, code, _) = expose(&site, &json!({"port": 3000})).await;
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
    let sandbox = site
        .rig
        .client
        .get_sandbox(site.sandbox.id.as_str())
        .await
        .unwrap();
    assert_eq!(sandbox.preview_url, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing() {
    let site = Site::new().await;
    expose(&site, &json!({"port": 8080})).await;
    site.listen(3000, canned(body("3000")).await);
    site.listen(8080, canned(body("8080")).await);
    let Site { rig, sandbox, vm } = site;
    let rig: Rig = rig.crash_and_restart().await;
    let site = Site { rig, sandbox, vm };
    assert_eq!(shown(&site).await, "8080");
}
