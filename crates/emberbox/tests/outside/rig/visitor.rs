//! Somebody who opens the addresses the server tells: previews, deployments.

use std::io::Read;
use std::net::TcpStream;

use serde_json::Value;
use tungstenite::WebSocket;
use tungstenite::client::IntoClientRequest;
use ureq::Agent;
use ureq::http::{HeaderMap, Response};

use super::{SOON, eventually};
use crate::answers::Answer;

/// What a browser's address line accepts.
pub(crate) const BROWSER: (&str, &str) = (
    "accept",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
);

/// Largest answer that is read: the largest thing the tests fetch, twice.
const ANSWER: u64 = 64 * 1024 * 1024;

/// Knows no key, follows no redirect, keeps no cookie.
pub(crate) struct Visitor(Agent);

/// A whole answer, which need not be one of the server's own.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// Where an address leads: names below `localhost` are this machine, as every
/// browser has it.
struct Place {
    authority: String,
    local: String,
    port: String,
}

impl Place {
    #[track_caller]
    fn of(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or_else(|| {
            panic!("{url} is no http address");
        });
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (_, port) = authority.rsplit_once(':').expect("it names its port");
        Self {
            local: format!("http://127.0.0.1:{port}/{path}"),
            authority: authority.to_owned(),
            port: port.to_owned(),
        }
    }
}

impl Visitor {
    pub(crate) fn new() -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Twice as much as anything takes: 20 MB into an emulated guest.
            .timeout_global(Some(4 * SOON))
            // The server is on this machine, whatever the environment says.
            .proxy(None)
            .build();
        Self(agent.into())
    }

    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> Page {
        self.get_with(url, &[])
    }

    #[track_caller]
    pub(crate) fn get_with(&self, url: &str, headers: &[(&str, &str)]) -> Page {
        Page::of(self.begin(url, headers))
    }

    #[track_caller]
    pub(crate) fn post(&self, url: &str, body: &[u8]) -> Page {
        let place = Place::of(url);
        let request = self.0.post(place.local).header("host", place.authority);
        Page::of(request.send(body).unwrap())
    }

    /// Another host's page at the address of a known one.
    #[track_caller]
    pub(crate) fn get_as(&self, url: &str, host: &str) -> Page {
        let Place { port, .. } = Place::of(url);
        self.get(&format!("http://{host}:{port}/"))
    }

    /// The body as it comes.
    #[track_caller]
    pub(crate) fn reads(&self, url: &str) -> impl Read + use<> {
        let response = self.begin(url, &[]);
        assert_eq!(response.status().as_u16(), 200);
        response.into_body().into_reader()
    }

    /// Opens a WebSocket.
    #[track_caller]
    pub(crate) fn socket(url: &str) -> WebSocket<TcpStream> {
        let Place { port, .. } = Place::of(url);
        let request = url.replacen("http", "ws", 1).into_client_request().unwrap();
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let (socket, response) = tungstenite::client(request, stream).unwrap();
        assert_eq!(response.status().as_u16(), 101);
        socket
    }

    /// Waits until the server behind an address has come up.
    #[track_caller]
    pub(crate) fn until_served(&self, url: &str) -> Page {
        eventually(&format!("{url} answers"), || {
            let page = self.get(url);
            let down = page.status == 502 && page.code() == Some("PORT_NOT_SERVED".into());
            (!down).then_some(page)
        })
    }

    #[track_caller]
    fn begin(&self, url: &str, headers: &[(&str, &str)]) -> Response<ureq::Body> {
        let place = Place::of(url);
        let mut request = self.0.get(place.local).header("host", place.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .call()
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }
}

impl Page {
    #[track_caller]
    fn of(mut response: Response<ureq::Body>) -> Self {
        let body = response.body_mut().with_config().limit(ANSWER);
        let bytes = body.read_to_vec().unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            bytes,
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The text of a page that is there.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.text()
    }

    /// The server's own error, in the one shape all have.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        let answer = Answer {
            status: self.status,
            request_id: self.header("x-request-id").unwrap_or_default().to_owned(),
            content_type: self.header("content-type").map(str::to_owned),
            server_timing: None,
            bytes: self.bytes.clone(),
        };
        answer.refused(status, code);
    }

    /// The server's own page for people.
    #[track_caller]
    pub(crate) fn tells(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let content_type = self.header("content-type");
        assert_eq!(content_type, Some("text/html; charset=utf-8"));
        assert!(self.text().contains(words), "{}", self.text());
        assert!(self.header("x-request-id").is_some());
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }

    /// The code of the server's own error, if it is one.
    fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.bytes).ok()?;
        Some(body["error"]["code"].as_str()?.to_owned())
    }
}
