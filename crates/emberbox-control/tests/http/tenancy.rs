//! Tenants, users, workspaces, projects, keys and limits.

mod keys;
mod limits;
mod places;
mod rates;
mod tenants;
mod walls;

use emberbox_api::client::Client;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::contract;
use crate::rig::Rig;

/// Somebody with a key.
pub(crate) struct Who<'a> {
    rig: &'a Rig,
    key: SecretString,
}

impl<'a> Who<'a> {
    pub(crate) fn operator(rig: &'a Rig) -> Self {
        Self {
            rig,
            key: rig.key.clone(),
        }
    }

    /// The first key of another tenant.
    pub(crate) async fn of_another_tenant(rig: &'a Rig, name: &str) -> Self {
        let made = rig.store.create_tenant(name).await.unwrap();
        Self {
            rig,
            key: made.secret.unwrap(),
        }
    }

    /// Somebody with a key that this one made.
    pub(crate) async fn give(&self, body: Value) -> Self {
        let made = self.post("/api-keys", body).await.ok(201);
        self.with(&made["data"]["key"])
    }

    pub(crate) fn with(&self, secret: &Value) -> Self {
        Self {
            rig: self.rig,
            key: secret.as_str().unwrap().to_owned().into(),
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.rig.url, self.key.clone()).unwrap()
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.rig.url);
        let request = self.rig.http.request(method.parse().unwrap(), url);
        request.bearer_auth(self.key.expose_secret())
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::to(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        Reply::to(self.request("POST", path).json(&body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Reply {
        Reply::to(self.request("PATCH", path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        Reply::to(self.request("DELETE", path)).await
    }

    /// Makes a sandbox and says its id.
    pub(crate) async fn sandbox(&self, body: Value) -> String {
        let made = self.post("/sandboxes", body).await.ok(201);
        made["id"].as_str().unwrap().to_owned()
    }
}

/// An answer, as the document allows it.
#[derive(Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Reply {
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let (http, request) = request.build_split();
        let request = request.unwrap();
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = http.execute(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            let body = serde_json::from_slice(&bytes).unwrap();
            contract::check(method.as_str(), url.path(), status, &body);
            body
        };
        Self {
            status,
            headers,
            body,
        }
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// An error with this status and code.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        let found = (self.status, self.body["error"]["code"].as_str());
        assert_eq!(found, (status, Some(code)), "{:#}", self.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoami_tells_what_a_key_is_and_may() {
    let rig = Rig::new().await;
    let operator = Who::operator(&rig);
    let me = operator.get("/whoami").await.ok(200);
    assert_eq!(me["data"]["scopes"], json!(["admin"]));
    assert_eq!(me["data"]["workspace_id"], Value::Null);
    assert_eq!(me["data"]["limits"]["max_sandboxes"], 10);
    let reader = operator
        .give(json!({"scopes": ["sandboxes:read"], "expires_in_seconds": 60}))
        .await;
    let me = reader.get("/whoami").await.ok(200);
    assert_eq!(me["data"]["scopes"], json!(["sandboxes:read"]));
    assert!(me["data"]["expires_at"].is_string(), "{me}");
    // The clients' header names an organisation; a key has one of its own.
    let tenant = me["data"]["tenant_id"].clone();
    for name in ["default", "somebody-else", "tnt_x"] {
        let asked = reader
            .request("GET", "/whoami")
            .header("X-MIOSA-Tenant", name);
        let me = Reply::to(asked).await.ok(200);
        assert_eq!(me["data"]["tenant_id"], tenant);
    }
}
