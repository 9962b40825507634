//! The public HTTP API as a stranger's client sees it: plain JSON, so that
//! what goes over the wire is checked and not our own types.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::answers::Answer;

/// Longest a call may take: the largest upload into an emulated guest.
const CALL: Duration = Duration::from_secs(120);

/// Largest answer that is read.
const ANSWER: u64 = 256 * 1024 * 1024;

/// One server and a key for it.
#[derive(Clone)]
pub(crate) struct Api {
    pub(super) agent: Agent,
    pub(crate) url: String,
    pub(crate) key: String,
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        Self {
            agent: agent(CALL),
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// The same server for calls that take longer.
    pub(crate) fn patient(&self, longest: Duration) -> Self {
        Self {
            agent: agent(longest),
            ..self.clone()
        }
    }

    /// The same server with another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let request = self.agent.get(self.at(path));
        answer(request.header("authorization", self.bearer()).call()).unwrap()
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.try_delete(path).unwrap()
    }

    /// Fails if no whole answer comes.
    pub(crate) fn try_delete(&self, path: &str) -> Result<Answer, ureq::Error> {
        let request = self.agent.delete(self.at(path));
        answer(request.header("authorization", self.bearer()).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body, &[]).unwrap()
    }

    /// Fails if no whole answer comes.
    pub(crate) fn try_post(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.post(self.at(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(
            request
                .header("authorization", self.bearer())
                .send_json(body),
        )
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.put(self.at(path));
        let request = request.header("authorization", self.bearer());
        answer(request.send_json(body)).unwrap()
    }

    pub(crate) fn post_bytes(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let request = self.agent.post(self.at(path));
        let request = request
            .header("authorization", self.bearer())
            .header("content-type", content_type);
        answer(request.send(body)).unwrap()
    }

    /// Any method at any address of the server, with any `Authorization`.
    pub(crate) fn anything(
        &self,
        method: &str,
        url_path: &str,
        authorization: Option<&str>,
    ) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{url_path}", self.url));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.header("content-type", "application/json");
        let body: &[u8] = if matches!(method, "POST" | "PUT" | "PATCH") {
            b"{}"
        } else {
            b""
        };
        answer(self.agent.run(request.body(body).unwrap())).unwrap()
    }

    /// Uploads through JSON.
    pub(crate) fn upload(&self, sandbox: &str, path: &str, content: &[u8]) -> Answer {
        let body = json!({ "path": path, "content": STANDARD.encode(content) });
        self.post(&format!("/sandboxes/{sandbox}/files"), &body)
    }

    /// Uploads as a form.
    pub(crate) fn upload_form(&self, sandbox: &str, path: &str, content: &[u8]) -> Answer {
        let (content_type, body) = form(Some(path), Some(content));
        self.post_bytes(&format!("/sandboxes/{sandbox}/files"), &content_type, &body)
    }

    /// The ids of sandboxes that are not destroyed.
    pub(crate) fn live(&self) -> Vec<String> {
        let list = self.get("/sandboxes").ok(200);
        let sandboxes = list["data"].as_array().unwrap();
        sandboxes
            .iter()
            .filter(|sandbox| sandbox["state"] != "destroyed")
            .map(|sandbox| sandbox["id"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.url)
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

fn agent(longest: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(longest))
        // The server is on this machine, whatever the environment says.
        .proxy(None)
        .build()
        .into()
}

/// A multipart/form-data body and its content type.
pub(crate) fn form(path: Option<&str>, file: Option<&[u8]>) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "----8f14e45fceea167a5a36dedd4bea2543";
    let mut body = Vec::new();
    if let Some(path) = path {
        let part = "content-disposition: form-data; name=\"path\"";
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{part}\r\n\r\n{path}\r\n").as_bytes());
    }
    if let Some(file) = file {
        let part = "content-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
                    content-type: application/octet-stream";
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{part}\r\n\r\n").as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

fn answer(response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Answer, ureq::Error> {
    let mut response = response?;
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let (request_id, content_type) = (header("x-request-id"), header("content-type"));
    let server_timing = header("server-timing");
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(ANSWER);
    Ok(Answer {
        status,
        // On every answer, whatever went wrong.
        request_id: request_id.expect("x-request-id"),
        content_type,
        server_timing,
        bytes: body.read_to_vec()?,
    })
}
