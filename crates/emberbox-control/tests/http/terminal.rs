//! Terminals, through a real WebSocket.

use futures_util::{SinkExt, StreamExt};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::rig::{PATIENCE, Rig, answer};

struct Sandbox<'a> {
    rig: &'a Rig,
    id: String,
}

/// Somebody who looks at a terminal.
struct Eyes {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    seen: String,
    /// Text frames that came.
    told: Vec<Value>,
}

impl<'a> Sandbox<'a> {
    async fn of(rig: &'a Rig) -> Self {
        let id = rig.sandbox().await.id.to_string();
        Self { rig, id }
    }

    fn request(&self, method: &str, rest: &str) -> reqwest::RequestBuilder {
        self.rig
            .request(method, &format!("/sandboxes/{}/terminal{rest}", self.id))
    }

    async fn open(&self, shell: &str) -> Value {
        let body = json!({"shell": shell, "cwd": "/", "env": {"MINE": "so"}});
        let (status, _, terminal) = answer(self.request("POST", "").json(&body)).await;
        assert_eq!(status, 201, "{terminal}");
        terminal
    }

    /// The URL of a terminal's socket as the reference says to make it.
    fn url(terminal: &Value, more: &str) -> String {
        let text = |name: &str| terminal[name].as_str().unwrap();
        let (url, id, token) = (text("ws_url"), text("session_id"), text("stream_auth"));
        format!("{url}?session_id={id}&token={token}{more}")
    }

    fn bare_url(&self, query: &str) -> String {
        let base = self.rig.url.replace("http://", "ws://");
        format!("{base}/sandboxes/{}/terminal/stream{query}", self.id)
    }

    async fn with_key(&self, query: &str) -> Result<Eyes, Error> {
        let mut request = self.bare_url(query).into_client_request().unwrap();
        let key = format!("Bearer {}", self.rig.key.expose_secret());
        request
            .headers_mut()
            .insert("authorization", key.parse().unwrap());
        Eyes::on(request).await
    }
}

/// Status and code of a refused socket.
fn refusal(result: Result<Eyes, Error>) -> (u16, String) {
    match result {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let code = body["error"]["code"].as_str().unwrap().to_owned();
            (response.status().as_u16(), code)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was let in"),
    }
}

impl Eyes {
    async fn on(request: impl IntoClientRequest + Unpin) -> Result<Self, Error> {
        let (socket, _) = connect_async(request).await?;
        Ok(Self {
            socket,
            seen: String::new(),
            told: Vec::new(),
        })
    }

    async fn at(terminal: &Value) -> Self {
        Self::on(Sandbox::url(terminal, "")).await.unwrap()
    }

    async fn typing(&mut self, text: &str) {
        let bytes = text.as_bytes().to_vec();
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    async fn saying(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// One message; the close, if it is one.
    async fn look(&mut self) -> Option<Option<CloseFrame>> {
        let message = async {
            loop {
                let message = self.socket.next().await.expect("a close comes first");
                if !matches!(message, Ok(Message::Ping(_))) {
                    return message.unwrap();
                }
            }
        };
        let message = timeout(PATIENCE, message).await;
        match message.unwrap_or_else(|_| panic!("silence after {:?}", self.seen)) {
            Message::Binary(data) => self.seen += &String::from_utf8_lossy(&data),
            Message::Text(text) => self.told.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => return Some(frame),
            other => panic!("{other:?}"),
        }
        None
    }

    async fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let closed = self.look().await;
            assert!(
                closed.is_none(),
                "{closed:?} before {text:?} in {:?}",
                self.seen
            );
        }
    }

    async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Some(frame) = self.look().await {
                let frame = frame.unwrap();
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_used_as_the_reference_says() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let terminal = sandbox.open("PS1='ready> ' exec bash --norc").await;
    assert_eq!(terminal.as_object().unwrap().len(), 4);
    assert_eq!(terminal["session_id"].as_str().unwrap().len(), 16);
    let expected = sandbox.bare_url("");
    assert_eq!(terminal["ws_url"], expected);
    let url = Sandbox::url(&terminal, "&cols=120&rows=32");
    let mut eyes = Eyes::on(url).await.unwrap();
    eyes.until("ready> ").await;
    eyes.typing("echo he''llo $MINE; stty size\r").await;
    eyes.until("hello so\r\n32 120\r\n").await;
    eyes.saying(r#"{"type":"resize","cols":101,"rows":33}"#)
        .await;
    eyes.typing("stty size\r").await;
    eyes.until("33 101\r\n").await;
    eyes.typing("sh -c \"echo u''p; exec sleep 300\"\r").await;
    eyes.until("up\r\n").await;
    eyes.seen.clear();
    eyes.typing("\x03").await;
    eyes.until("ready> ").await;
    eyes.typing("echo status=$?; exit 7\r").await;
    eyes.until("status=130").await;
    assert_eq!(eyes.closed().await, (1000, "exit code 7".to_owned()));
    let (status, code) = refusal(Eyes::on(Sandbox::url(&terminal, "")).await);
    assert_eq!((status, code.as_str()), (404, "TERMINAL_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_sees_what_was_there() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let terminal = sandbox.open("echo earlier; exec cat").await;
    let mut first = Eyes::at(&terminal).await;
    first.until("earlier").await;
    let mut second = Eyes::at(&terminal).await;
    second.until("earlier").await;
    assert_eq!(first.closed().await.0, 4001);
    // Whoever says goodbye is answered.
    second.socket.close(None).await.unwrap();
    assert!(second.look().await.is_some());
    // A server that restarts knows the terminal and its token.
    let id = sandbox.id.clone();
    let rig = rig.crash_and_restart().await;
    let sandbox = Sandbox { rig: &rig, id };
    let mut moved = terminal.clone();
    moved["ws_url"] = sandbox.bare_url("").into();
    let mut back = Eyes::at(&moved).await;
    back.until("earlier").await;
    let session = terminal["session_id"].as_str().unwrap();
    let mut third = sandbox
        .with_key(&format!("?session_id={session}"))
        .await
        .unwrap();
    third.until("earlier").await;
    let deleted = sandbox.request("DELETE", &format!("/{session}"));
    assert_eq!(deleted.send().await.unwrap().status(), 204);
    assert_eq!(third.closed().await.0, 1000);
    let again = sandbox.request("DELETE", &format!("/{session}"));
    let (status, code, _) = answer(again).await;
    assert_eq!((status, code.as_str()), (404, "TERMINAL_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_alone_a_terminal_lives_as_long_as_its_socket() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let marker = rig.path("ended");
    // The working directory is the default one here, and it may not exist.
    let Ok(mut eyes) = sandbox.with_key("?cols=91&rows=17").await else {
        assert!(!std::path::Path::new("/root").is_dir());
        return;
    };
    eyes.typing(&format!("trap 'touch {marker}' EXIT; stty size\r"))
        .await;
    eyes.until("17 91\r\n").await;
    eyes.socket.close(None).await.unwrap();
    crate::rig::eventually("the end of the shell", || async {
        std::path::Path::new(&marker).exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_and_does_no_harm() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let terminal = sandbox.open("stty -echo; echo up; exec cat").await;
    let mut eyes = Eyes::at(&terminal).await;
    eyes.until("up").await;
    let garbage = [
        "",
        "hello",
        "{",
        "[]",
        r#"{"type":"resize"}"#,
        r#"{"type":"resize","cols":0,"rows":10}"#,
        r#"{"type":"resize","cols":10,"rows":100000}"#,
        r#"{"type":"resize","cols":-1,"rows":10}"#,
        r#"{"type":"reboot"}"#,
    ];
    for text in garbage {
        eyes.saying(text).await;
    }
    eyes.typing("still here\r").await;
    eyes.until("still here").await;
    while eyes.told.len() < garbage.len() {
        assert!(eyes.look().await.is_none());
    }
    for told in &eyes.told {
        assert_eq!(told["type"], "error", "{told}");
        assert!(!told["message"].as_str().unwrap().is_empty());
    }
    eyes.typing("\x04").await;
    assert_eq!(eyes.closed().await.0, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_message_is_refused_and_the_terminal_lives_on() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let terminal = sandbox.open("echo up; exec cat").await;
    let mut eyes = Eyes::at(&terminal).await;
    eyes.until("up").await;
    let (mut sink, mut stream) = eyes.socket.split();
    let sending = tokio::spawn(async move {
        let huge = Message::binary(vec![b'x'; 100_000_000]);
        // It breaks off in the middle.
        let _ = sink.send(huge).await;
    });
    let close = loop {
        let message = timeout(PATIENCE, stream.next()).await.unwrap();
        if let Message::Close(frame) = message.unwrap().unwrap() {
            break frame.unwrap();
        }
    };
    assert_eq!(u16::from(close.code), 1009);
    sending.abort();
    drop(stream);
    Eyes::at(&terminal).await.until("up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let other = Sandbox::of(&rig).await;
    let terminal = sandbox.open("exec cat").await;
    let foreign = other.open("exec cat").await;
    let sibling = sandbox.open("exec cat").await;
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let session = text(&terminal, "session_id");
    for token in [
        String::new(),
        "garbage".to_owned(),
        "a.b.c".to_owned(),
        text(&foreign, "stream_auth"),
        text(&sibling, "stream_auth"),
    ] {
        let url = sandbox.bare_url(&format!("?session_id={session}&token={token}"));
        let (status, code) = refusal(Eyes::on(url).await);
        assert_eq!((status, code.as_str()), (401, "UNAUTHORIZED"), "{token}");
    }
    let url = sandbox.bare_url(&format!("?session_id={session}"));
    assert_eq!(refusal(Eyes::on(url).await).0, 401);
    let refused = sandbox.with_key("?session_id=0123456789abcdef").await;
    assert_eq!(refusal(refused), (404, "TERMINAL_NOT_FOUND".to_owned()));
    for size in ["&cols=0", "&cols=100000&rows=5", "&rows=x"] {
        let (status, code) = refusal(Eyes::on(Sandbox::url(&terminal, size)).await);
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{size}");
    }
    // A token opens nothing but its socket, and a socket is no page.
    let token = text(&terminal, "stream_auth");
    let stolen = rig
        .http
        .get(format!("{}/sandboxes/{}", rig.url, sandbox.id));
    let (status, _, _) = answer(stolen.bearer_auth(token)).await;
    assert_eq!(status, 401);
    let (status, _, _) = answer(sandbox.request("GET", "/stream")).await;
    assert_eq!(status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_terminals_are_refused_by_name() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    for body in [
        json!({"cols": 0}),
        json!({"rows": 100_000}),
        json!({"cols": -1}),
        json!({"cols": "80"}),
        json!({"shell": ""}),
        json!({"shell": "a\u{0}b"}),
        json!({"cwd": "relative"}),
        json!({"cwd": "/no/such/directory"}),
        json!({"cwd": "/", "env": {"A=B": "x"}}),
    ] {
        let (status, code, _) = answer(sandbox.request("POST", "").json(&body)).await;
        assert_eq!((status, code.as_str()), (422, "VALIDATION_ERROR"), "{body}");
    }
    for id in ["0123456789abcdef", "xyz", "0", "-123456789abcdef"] {
        let (status, code, _) = answer(sandbox.request("DELETE", &format!("/{id}"))).await;
        assert_eq!((status, code.as_str()), (404, "TERMINAL_NOT_FOUND"), "{id}");
    }
    let body = json!({"shell": "exec cat", "cwd": "/"});
    for _ in 0..16 {
        sandbox.open("exec cat").await;
    }
    let (status, code, _) = answer(sandbox.request("POST", "").json(&body)).await;
    assert_eq!((status, code.as_str()), (409, "GUEST_LIMIT_EXCEEDED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_ends_takes_its_sockets_along() {
    let rig = Rig::new().await;
    let sandbox = Sandbox::of(&rig).await;
    let terminal = sandbox.open("echo up; exec cat").await;
    let mut eyes = Eyes::at(&terminal).await;
    eyes.until("up").await;
    rig.client.destroy_sandbox(&sandbox.id).await.unwrap();
    let (code, _) = eyes.closed().await;
    assert!(code == 1001 || code == 1011, "{code}");
    let (status, code) = refusal(Eyes::on(Sandbox::url(&terminal, "")).await);
    assert_eq!((status, code.as_str()), (409, "SANDBOX_NOT_RUNNING"));
}
