//! Previews: what listens in a sandbox, seen by strangers.

use std::io::Read;

use serde_json::{Value, json};
use tungstenite::Message;

use crate::rig::sandbox::Sandbox;
use crate::rig::visitor::{BROWSER, Visitor};
use crate::rig::{Rig, eventually};

/// A server in Python, and one in JavaScript.
const APP: &[u8] = include_bytes!("previews/app.py");
const ECHO: &[u8] = include_bytes!("previews/echo.js");

/// What is sent through a preview in one piece: 20 MB, no multiple of any
/// buffer.
const LARGE: usize = 20_000_003;

/// Runs a server in the background.
pub(crate) fn start(sandbox: &Sandbox<'_>, command: &str) {
    let body = json!({ "command": command, "cwd": "/workspace" });
    let path = sandbox.at("/processes");
    sandbox.api.post(&path, &body).ok(201);
}

/// The address of a port.
pub(crate) fn expose(sandbox: &Sandbox<'_>, port: u16) -> String {
    let body = json!({ "port": port });
    let answer = sandbox.api.post(&sandbox.at("/expose"), &body).ok(200);
    assert_eq!(answer["url"], answer["preview_url"]);
    answer["url"].as_str().unwrap().to_owned()
}

/// Bytes in which nothing repeats.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

pub(crate) fn bytes_both_ways(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let visitor = Visitor::new();
    sandbox.upload("/workspace/index.html", b"<h1>here</h1>");
    sandbox.upload("/workspace/app.py", APP);
    start(&sandbox, "exec python3 -m http.server 8000 --bind 0.0.0.0");
    start(
        &sandbox,
        "exec python3 -m http.server 8001 --bind 127.0.0.1",
    );
    start(&sandbox, "exec python3 app.py 0.0.0.0 9000");
    let large = noise(LARGE);
    for port in [8000, 8001] {
        let url = expose(&sandbox, port);
        let page = visitor.until_served(&url);
        assert_eq!(page.ok(), "<h1>here</h1>");
        assert_eq!(page.header("content-type"), Some("text/html"));
        assert_eq!(visitor.get(&format!("{url}/nothing")).status, 404);
    }
    // The sandbox's own address leads to the usual port it was exposed with.
    let own = sandbox.record["preview_url"].as_str().unwrap();
    assert_eq!(visitor.get(own).ok(), "<h1>here</h1>");

    let url = expose(&sandbox, 9000);
    eventually("the app listens", || {
        let ran = sandbox
            .exec("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9000))'");
        (ran.exit_code == 0).then_some(())
    });
    let posted = visitor.post(&url, &large);
    assert_eq!(posted.status, 201, "{}", posted.text());
    let sum = sandbox.say("sha256sum </workspace/posted | cut -d' ' -f1");
    assert_eq!(posted.text(), sum);
    for port in [8000, 8001] {
        let back = visitor.get(&format!("{}/posted", expose(&sandbox, port)));
        assert_eq!(back.status, 200);
        assert!(back.bytes == large, "{} bytes came back", back.bytes.len());
    }
}

pub(crate) fn streams_and_sockets(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let visitor = Visitor::new();
    sandbox.upload("/workspace/app.py", APP);
    sandbox.upload("/workspace/echo.js", ECHO);
    start(&sandbox, "exec python3 app.py 127.0.0.1 8000");
    start(&sandbox, "exec node echo.js");
    eventually("the app listens", || {
        let ran = sandbox.exec("exec 3<>/dev/tcp/127.0.0.1/8000");
        (ran.exit_code == 0).then_some(())
    });
    let mut events = visitor.reads(&expose(&sandbox, 8000));
    let mut first = [0; "data: first\n\n".len()];
    events.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"data: first\n\n");
    sandbox.upload("/tmp/go", b"");
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "data: second\n\n");

    let url = expose(&sandbox, 3000);
    assert_eq!(visitor.until_served(&url).ok(), "no socket");
    let mut socket = Visitor::socket(&url);
    let long = "long ".repeat(5_000);
    for text in ["first", "", "grüße", &long] {
        socket.send(Message::text(text)).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(text));
        socket
            .send(Message::binary(text.as_bytes().to_vec()))
            .unwrap();
        assert_eq!(
            socket.read().unwrap(),
            Message::binary(text.as_bytes().to_vec())
        );
    }
    socket.close(None).unwrap();
    assert!(socket.read().unwrap().is_close());
    // A socket does not outlive what it leads to.
    let mut socket = Visitor::socket(&url);
    socket.send(Message::text("x")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("x"));
    sandbox.destroy();
    assert!(socket.read().is_err());
}

pub(crate) fn what_is_not_there(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let visitor = Visitor::new();
    let url = expose(&sandbox, 5173);
    let page = visitor.get_with(&url, &[BROWSER]);
    page.tells(502, "Nothing answers here yet");
    assert!(page.text().contains("http-equiv=\"refresh\""));
    assert!(page.header("retry-after").is_some());
    visitor.get(&url).refused(502, "PORT_NOT_SERVED");
    // The page looks again, and sees what has begun.
    sandbox.upload("/workspace/index.html", b"now it is");
    start(&sandbox, "exec python3 -m http.server 5173");
    assert_eq!(visitor.until_served(&url).ok(), "now it is");
    // What answers, but not in HTTP.
    let reply = "import socket; s = socket.create_server((\"0.0.0.0\", 4000))\n\
                 while True: s.accept()[0].send(b\"SSH-2.0-x\\r\\n\")";
    start(&sandbox, &format!("exec python3 -c '{reply}'"));
    let deaf = expose(&sandbox, 4000);
    let page = visitor.until_served(&deaf);
    page.refused(502, "PREVIEW_UNREACHABLE");

    let agent = json!({ "port": 871 });
    let path = sandbox.at("/expose");
    api.post(&path, &agent).refused(422, "INVALID_PORT");
    for port in [json!(0), json!(65536), json!(-1), json!("80"), json!(1.5)] {
        let body = json!({ "port": port });
        api.post(&path, &body).refused(422, "INVALID_PORT");
    }
    let agents = url.replacen("5173-", "871-", 1);
    visitor.get(&agents).refused(502, "PORT_NOT_SERVED");
    let slug = url.split(['-', '.']).nth(1).unwrap().to_owned();
    for host in [
        "5173-nobodyatall.sandbox.localhost".to_owned(),
        format!("05173-{slug}.sandbox.localhost"),
        format!("70000-{slug}.sandbox.localhost"),
        format!("{slug}-.sandbox.localhost"),
        format!("a.5173-{slug}.sandbox.localhost"),
    ] {
        visitor.get_as(&url, &host).refused(404, "NOT_FOUND");
    }
    let own = sandbox.record["preview_url"].as_str().unwrap().to_owned();
    sandbox.destroy();
    for url in [url, own] {
        let page = visitor.get(&url);
        assert!(matches!(page.status, 404 | 409), "{}", page.text());
        let told = visitor.get_with(&url, &[BROWSER]);
        told.tells(page.status, "sandbox");
    }
}

pub(crate) fn private_ones(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let visitor = Visitor::new();
    sandbox.upload("/workspace/index.html", b"secret");
    start(&sandbox, "exec python3 -m http.server 8000");
    let body = json!({ "port": 8000, "visibility": "private", "name": "mine" });
    let made = api.post(&sandbox.at("/previews"), &body).ok(201)["data"].clone();
    let url = made["url"].as_str().unwrap().to_owned();
    let path = sandbox.at(&format!("/previews/{}", made["id"].as_str().unwrap()));
    let closed = || {
        visitor.get(&url).refused(401, "PREVIEW_TOKEN_REQUIRED");
    };
    closed();
    visitor
        .get_with(&url, &[BROWSER])
        .tells(401, "This preview is private");
    let share = || -> Value {
        let answer = api.post(&format!("{path}/share"), &json!({ "ttl_seconds": 600 }));
        answer.ok(201)["data"].clone()
    };
    let shared = share();
    let token = shared["preview_token"].as_str().unwrap().to_owned();
    let header = [("x-preview-token", token.as_str())];
    let first = eventually("the server listens", || {
        let page = visitor.get_with(&url, &header);
        (page.status != 502).then_some(page)
    });
    assert_eq!(first.ok(), "secret");
    for wrong in ["", "mp_garbage", &token[..token.len() - 1]] {
        let header = [("x-preview-token", wrong)];
        let page = visitor.get_with(&url, &header);
        page.refused(401, "PREVIEW_TOKEN_REQUIRED");
    }
    // A browser follows the link, keeps the token, and comes back without it.
    let link = shared["share_url"].as_str().unwrap();
    let sent_on = visitor.get_with(link, &[BROWSER]);
    assert_eq!(sent_on.status, 303, "{}", sent_on.text());
    assert_eq!(sent_on.header("location"), Some("/"));
    let cookie = sent_on.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("Path=/"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let kept = [BROWSER, ("cookie", cookie.as_str())];
    assert_eq!(visitor.get_with(&url, &kept).ok(), "secret");
    // Another port of the same sandbox is another matter.
    let other = api.post(
        &sandbox.at("/previews"),
        &json!({ "port": 8001, "visibility": "private" }),
    );
    let other = other.ok(201)["data"]["url"].as_str().unwrap().to_owned();
    let page = visitor.get_with(&other, &kept);
    page.tells(401, "This preview is private");

    // A new link replaces the old one; revoked, none is left.
    let second = share();
    visitor
        .get_with(&url, &kept)
        .tells(401, "This preview is private");
    let header = [("x-preview-token", second["preview_token"].as_str().unwrap())];
    assert_eq!(visitor.get_with(&url, &header).ok(), "secret");
    assert_eq!(api.delete(&format!("{path}/share")).status, 204);
    let page = visitor.get_with(&url, &header);
    page.refused(401, "PREVIEW_TOKEN_REQUIRED");
    // A deleted one is shown to nobody, an exposed one to everybody.
    let deleted = api.delete(&path).ok(200);
    assert_eq!(deleted["data"]["state"], "deleted");
    visitor.get(&url).refused(404, "NOT_FOUND");
    assert_eq!(expose(&sandbox, 8000), url);
    assert_eq!(visitor.get(&url).ok(), "secret");
}

pub(crate) fn of_two_tenants(rig: &Rig) {
    let api = rig.api();
    let (_, other_api) = rig.another_tenant("previewing");
    let visitor = Visitor::new();
    let (ours, theirs) = (Sandbox::new(&api), Sandbox::new(&other_api));
    for (sandbox, text) in [(&ours, "ours"), (&theirs, "theirs")] {
        sandbox.upload("/workspace/index.html", text.as_bytes());
        start(sandbox, "exec python3 -m http.server 8000");
        let url = expose(sandbox, 8000);
        assert_eq!(visitor.until_served(&url).ok(), text);
    }
    // Each sees its own previews, and cannot touch the other's.
    let list = api.get(&ours.at("/previews")).ok(200);
    let preview = list["data"][0]["id"].as_str().unwrap();
    let path = theirs.at(&format!("/previews/{preview}"));
    other_api.get(&path).refused(404, "NOT_FOUND");
    other_api.delete(&path).refused(404, "NOT_FOUND");
    other_api
        .post(&format!("{path}/share"), &json!({}))
        .refused(404, "NOT_FOUND");
    other_api
        .get(&ours.at("/previews"))
        .refused(404, "NOT_FOUND");
    // A domain of one tenant shows that tenant's sandboxes only.
    let domain = json!({ "domain": "theirs.example" });
    other_api.put("/preview-domain", &domain).ok(200);
    let told = expose(&theirs, 8000);
    let host = told.strip_prefix("http://").unwrap();
    let (host, _) = host.split_once(':').unwrap();
    assert!(host.ends_with(".sandbox.theirs.example"), "{told}");
    assert_eq!(visitor.get(&told).ok(), "theirs");
    let slug = |sandbox: &Sandbox<'_>| {
        let url = sandbox.record["preview_url"].as_str().unwrap();
        let name = url.strip_prefix("http://").unwrap();
        name.split('.').next().unwrap().to_owned()
    };
    let intruder = format!("8000-{}.sandbox.theirs.example", slug(&ours));
    visitor.get_as(&told, &intruder).refused(404, "NOT_FOUND");
    other_api
        .put("/preview-domain", &json!({ "domain": null }))
        .ok(200);
    visitor.get_as(&told, host).refused(404, "ROUTE_NOT_FOUND");
}
