//! The public HTTP API as a stranger's client sees it: plain JSON, so that
//! what goes over the wire is checked and not our own types.

use std::io::{BufRead, BufReader};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::patience::patience;

/// Longest any single call may take: an exec may run 30 s, and a first boot on
/// a loaded machine without hardware virtualisation takes a few more.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer that is read: twice the file that the demo downloads would
/// do, and a runaway answer must not fill the memory.
const ANSWER_LIMIT: u64 = 64 * 1024 * 1024;

/// Longest until a hundred VMs are prepared: in software emulation each takes
/// the better part of a second, one after the other.
const PREPARED_DEADLINE: Duration = Duration::from_secs(240);

/// How often is looked; nobody notifies.
const PREPARED_POLL: Duration = Duration::from_millis(10);

/// The shape of a sandbox that asks for none, as metrics name it.
pub(crate) const DEFAULT_SHAPE: &str = "1c-1024m-3072d";

/// One server and a key for it.
pub(crate) struct Api {
    agent: Agent,
    base: String,
    bearer: String,
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Refused {
    path: String,
    pub(crate) status: u16,
    /// Its code.
    pub(crate) code: String,
    body: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.path, self.status, self.body)
    }
}

impl std::error::Error for Refused {}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit_code: i64,
}

impl Ran {
    /// A command that succeeded and had nothing to complain about.
    pub(crate) fn ok(stdout: &str) -> Self {
        Self {
            stdout: stdout.to_owned(),
            stderr: String::new(),
            exit_code: 0,
        }
    }
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(patience(CALL_TIMEOUT)))
            // The server is on this machine, whatever the environment says.
            .proxy(None)
            .build()
            .into();
        Self {
            agent,
            base: format!("{url}/api/v1"),
            bearer: format!("Bearer {key}"),
        }
    }

    /// Creates a sandbox and returns its record.
    pub(crate) fn create(&self, body: &Value) -> Result<Value> {
        self.post("/sandboxes?wait=true", body)
    }

    /// The same, and where the server says its time went (`Server-Timing`).
    pub(crate) fn create_timed(&self, body: &Value) -> Result<(Value, String)> {
        let path = "/sandboxes?wait=true";
        let response = self.post_raw(path, body)?;
        let timing = response.headers().get("server-timing");
        let timing = timing.and_then(|text| text.to_str().ok());
        let timing = timing.context("a create without Server-Timing")?.to_owned();
        Ok((json_of(path, response)?, timing))
    }

    /// VMs of this shape, for example `1c-1024m-3072d`, that are prepared now.
    pub(crate) fn prepared(&self, shape: &str) -> Result<usize> {
        self.gauge("emberbox_pool_vms", &format!("shape=\"{shape}\""))
    }

    /// A whole number of the server's metrics, 0 if it is not there.
    fn gauge(&self, name: &str, label: &str) -> Result<usize> {
        let mut response = self.get_raw("/metrics")?;
        let text = String::from_utf8(body_of(&mut response)?).context("metrics are no text")?;
        let line = text
            .lines()
            .find(|line| line.starts_with(name) && line.contains(label));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(count.unwrap_or(0))
    }

    /// Waits until as many VMMs wait for something to restore as shall.
    pub(crate) fn wait_standing_by(&self) -> Result<()> {
        let of = |state: &str| self.gauge("emberbox_standby_vmms", &format!("state=\"{state}\""));
        let deadline = Instant::now() + patience(PREPARED_DEADLINE);
        loop {
            let (waiting, wanted) = (of("waiting")?, of("wanted")?);
            if waiting == wanted {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "only {waiting} of {wanted} VMMs stand by"
            );
            thread::sleep(PREPARED_POLL);
        }
    }

    /// Waits until so many VMs of this shape are prepared.
    pub(crate) fn wait_prepared(&self, shape: &str, count: usize) -> Result<()> {
        let deadline = Instant::now() + patience(PREPARED_DEADLINE);
        loop {
            let prepared = self.prepared(shape)?;
            if prepared >= count {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "only {prepared} of {count} VMs of {shape} are prepared"
            );
            thread::sleep(PREPARED_POLL);
        }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        json_of(path, self.get_raw(path)?)
    }

    /// The bytes of a file.
    pub(crate) fn download(&self, sandbox: &str, path: &str) -> Result<Vec<u8>> {
        let url = format!(
            "/sandboxes/{sandbox}/files/{}",
            path.trim_start_matches('/').replace('/', "%2F")
        );
        let mut response = self.get_raw(&url)?;
        let bytes = body_of(&mut response)?;
        ensure!(
            response.status() == 200,
            "GET {url}: {} {}",
            response.status(),
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }

    /// Writes a file.
    pub(crate) fn upload(&self, sandbox: &str, path: &str, content: &[u8]) -> Result<()> {
        let body = json!({ "path": path, "content": BASE64.encode(content) });
        let answer = self.post(&format!("/sandboxes/{sandbox}/files"), &body)?;
        ensure!(
            answer["data"]["size"] == content.len(),
            "uploaded {} bytes, and the server says {}",
            content.len(),
            answer["data"]["size"]
        );
        Ok(())
    }

    pub(crate) fn exec(&self, sandbox: &str, command: &str) -> Result<Ran> {
        let body = json!({ "command": command });
        let answer = self.post(&format!("/sandboxes/{sandbox}/exec"), &body)?;
        let data = &answer["data"];
        let text = |name: &str| -> Result<String> {
            let value = data[name].as_str();
            Ok(value
                .with_context(|| format!("no {name} in {answer}"))?
                .to_owned())
        };
        Ok(Ran {
            stdout: text("stdout")?,
            stderr: text("stderr")?,
            exit_code: data["exit_code"]
                .as_i64()
                .with_context(|| format!("no exit_code in {answer}"))?,
        })
    }

    /// Runs a command that has to succeed and returns its standard output
    /// without the line's end.
    pub(crate) fn exec_ok(&self, sandbox: &str, command: &str) -> Result<String> {
        let ran = self.exec(sandbox, command)?;
        ensure!(ran.exit_code == 0, "{command}: {ran:?}");
        Ok(ran.stdout.trim_end().to_owned())
    }

    pub(crate) fn destroy(&self, sandbox: &str) -> Result<Value> {
        self.delete(&format!("/sandboxes/{sandbox}"))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value> {
        let response = self
            .agent
            .delete(self.url(path))
            .header("authorization", &self.bearer)
            .call()
            .with_context(|| format!("DELETE {path}"))?;
        json_of(path, response)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        json_of(path, self.post_raw(path, body)?)
    }

    fn post_raw(&self, path: &str, body: &Value) -> Result<Response<ureq::Body>> {
        self.agent
            .post(self.url(path))
            .header("authorization", &self.bearer)
            .send_json(body)
            .with_context(|| format!("POST {path}"))
    }

    /// The events of a command while it runs: what is done with each is told
    /// when it comes.
    pub(crate) fn exec_stream(
        &self,
        sandbox: &str,
        command: &str,
        on_event: impl FnMut(&str, &Value),
    ) -> Result<()> {
        let path = format!("/sandboxes/{sandbox}/exec/stream");
        let response = self
            .agent
            .post(self.url(&path))
            .header("authorization", &self.bearer)
            .send_json(json!({ "command": command }))
            .with_context(|| format!("POST {path}"))?;
        follow(&path, response, on_event)
    }

    /// The events of a stream until it ends.
    pub(crate) fn events(&self, path: &str, on_event: impl FnMut(&str, &Value)) -> Result<()> {
        follow(path, self.get_raw(path)?, on_event)
    }

    /// What stands in the authorization header.
    pub(crate) fn bearer(&self) -> &str {
        &self.bearer
    }

    /// A page of a preview or deployment, as a browser on this machine would
    /// get it: names below `localhost` are this machine.
    pub(crate) fn page(&self, url: &str) -> Result<(u16, String)> {
        let rest = url
            .strip_prefix("http://")
            .with_context(|| format!("{url} is no http address"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = authority.rsplit_once(':').map_or("80", |(_, port)| port);
        let mut response = self
            .agent
            .get(format!("http://127.0.0.1:{port}/{path}"))
            .header("host", authority)
            .call()
            .with_context(|| format!("GET {url}"))?;
        let body = body_of(&mut response)?;
        Ok((
            response.status().as_u16(),
            String::from_utf8_lossy(&body).into_owned(),
        ))
    }

    fn get_raw(&self, path: &str) -> Result<Response<ureq::Body>> {
        self.agent
            .get(self.url(path))
            .header("authorization", &self.bearer)
            .call()
            .with_context(|| format!("GET {path}"))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn follow(
    path: &str,
    response: Response<ureq::Body>,
    mut on_event: impl FnMut(&str, &Value),
) -> Result<()> {
    ensure!(response.status() == 200, "{path}: {}", response.status());
    let mut name = String::new();
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line.context("the stream broke off")?;
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data = serde_json::from_str(data)
                .with_context(|| format!("an event without JSON: {data}"))?;
            on_event(&name, &data);
        }
    }
    Ok(())
}

/// The body of a good answer; every answer, good or bad, must carry a request
/// id.
fn json_of(path: &str, mut response: Response<ureq::Body>) -> Result<Value> {
    let status = response.status();
    ensure!(
        response.headers().contains_key("x-request-id"),
        "{path}: the answer has no x-request-id"
    );
    let bytes = body_of(&mut response)?;
    if !status.is_success() {
        let error: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{path}: an error ({status}) without JSON"))?;
        return Err(Refused {
            path: path.to_owned(),
            status: status.as_u16(),
            code: error["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            body: error.to_string(),
        }
        .into());
    }
    if status == 204 {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).with_context(|| format!("{path}: the answer is not JSON"))
}

fn body_of(response: &mut Response<ureq::Body>) -> Result<Vec<u8>> {
    response
        .body_mut()
        .with_config()
        .limit(ANSWER_LIMIT)
        .read_to_vec()
        .context("the answer broke off")
}
