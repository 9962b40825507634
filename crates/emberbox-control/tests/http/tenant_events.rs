//! What happens to all sandboxes of a tenant.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Response;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::rig::{PATIENCE, Rig, answer};

struct Reader {
    response: Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin + Send>,
    text: String,
}

impl Reader {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response: Box::new(response.bytes_stream().boxed()),
            text: String::new(),
        }
    }

    /// The next event: its name, id and data.
    async fn next(&mut self) -> (String, String, Value) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_default().trim().to_owned()
                };
                let data = serde_json::from_str(&field("data:")).unwrap();
                return (field("event:"), field("id:"), data);
            }
            let piece = timeout(PATIENCE, self.response.next()).await.unwrap();
            self.text += &String::from_utf8_lossy(&piece.unwrap().unwrap());
        }
    }
}

async fn follow(rig: &Rig, query: &str) -> Reader {
    let request = rig.request("GET", &format!("/events/stream{query}"));
    Reader::of(request.send().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_tenants_own_is_told_and_read_on_from() {
    let rig = Rig::new().await;
    // Of before, and of somebody else.
    rig.sandbox().await;
    let other = rig.store.create_tenant("other").await.unwrap();
    let mut all = follow(&rig, "").await;
    let theirs = rig.http.post(format!("{}/sandboxes", rig.url));
    let theirs = theirs.bearer_auth(other.secret.unwrap().expose_secret());
    assert_eq!(theirs.json(&json!({})).send().await.unwrap().status(), 201);
    let id = rig.sandbox().await.id;
    let mut last = String::new();
    for (state, previous) in [
        ("provisioning", Value::Null),
        ("running", json!("provisioning")),
    ] {
        let (name, at, data) = all.next().await;
        assert_eq!(name, "sandbox.state_changed");
        assert_eq!(data["type"], "sandbox.state_changed");
        assert_eq!(
            (&data["sandbox_id"], &data["state"], &data["previous_state"]),
            (&json!(id), &json!(state), &previous)
        );
        if last.is_empty() {
            last = at;
        }
    }
    let request = rig
        .request("GET", "/events/stream")
        .header("last-event-id", &last);
    let mut again = Reader::of(request.send().await.unwrap());
    assert_eq!(again.next().await.2["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_told() {
    let rig = Rig::new().await;
    let mut errors = follow(&rig, "?types=sandbox.error,webhook.delivered").await;
    let mut states = follow(&rig, "?types=sandbox.st*").await;
    rig.sandbox().await;
    let vm = rig.fleet.running()[0].clone();
    rig.fleet.kill(&vm).await;
    let (name, _, data) = errors.next().await;
    assert_eq!(
        (name.as_str(), &data["message"]),
        ("sandbox.error", &json!("VM terminated unexpectedly"))
    );
    for state in ["provisioning", "running", "error"] {
        assert_eq!(states.next().await.2["state"], state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_streams_are_refused_and_a_ticket_opens_one() {
    let rig = Rig::new().await;
    let request = rig.request("GET", "/events/stream");
    let (status, code, _) = answer(request.header("last-event-id", "x")).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let many = "a,".repeat(51);
    let (status, code, _) =
        answer(rig.request("GET", &format!("/events/stream?types={many}"))).await;
    assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"));
    let (status, ..) = answer(rig.http.get(format!("{}/events/stream", rig.url))).await;
    assert_eq!(status, 401);
    let (_, _, ticket) = answer(rig.request("POST", "/sse/ticket").json(&json!({}))).await;
    let url = format!(
        "{}/events/stream?ticket={}",
        rig.url,
        ticket["ticket"].as_str().unwrap()
    );
    let opened = rig.http.get(url).send();
    let opened = timeout(Duration::from_secs(10), opened)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(opened.status(), 200);
}
