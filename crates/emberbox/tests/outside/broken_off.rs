//! Clients that go away in the middle.

use std::thread;

use serde_json::json;

use crate::rig::api::{Api, form};
use crate::rig::raw::{Raw, Request};
use crate::rig::sandbox::{Ran, Sandbox};
use crate::rig::{Rig, SOON, eventually, try_eventually};

/// What the heads of half bodies promise; far more than comes.
const PROMISED: usize = 100_000;

/// A request whose body is not all there.
struct Half {
    path: String,
    content_type: String,
    body: Vec<u8>,
}

impl Half {
    fn send(&self, api: &Api) -> Raw {
        let request = Request {
            path: &self.path,
            content_type: &self.content_type,
            length: PROMISED,
            body: &self.body,
        };
        Raw::post(api, &request)
    }
}

/// One of each kind; `way` keeps their directories apart.
fn halves(sandbox: &Sandbox<'_>, way: &str) -> [Half; 4] {
    let json = |path: &str, body: &str| Half {
        path: path.to_owned(),
        content_type: "application/json".to_owned(),
        body: body.as_bytes().to_vec(),
    };
    let content = "QUJD".repeat(10_000);
    let upload = format!(r#"{{"path":"/workspace/old","content":"{content}"#);
    let target = format!("/workspace/{way}/deep/file");
    let (content_type, mut body) = form(Some(&target), Some(&[7; 60_000]));
    body.truncate(50_000);
    [
        json(&sandbox.at("/exec"), r#"{"command":"touch /tmp/ran","#),
        json(&sandbox.at("/files"), &upload),
        json("/sandboxes", "{"),
        Half {
            path: sandbox.at("/files"),
            content_type,
            body,
        },
    ]
}

pub(crate) fn half_bodies(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    sandbox.upload("/workspace/old", b"as it was");
    let before = api.live();
    // Our side is closed: the server sees the end of a body that is too short.
    for half in halves(&sandbox, "closed") {
        let connection = half.send(&api);
        connection.stop_sending();
        let answer = connection.rest();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    // The connection is gone without a word.
    for half in halves(&sandbox, "gone") {
        drop(half.send(&api));
    }
    // The connection stays, and nothing comes: the server's patience ends.
    thread::scope(|scope| {
        for half in halves(&sandbox, "silent") {
            let connection = half.send(&api);
            scope.spawn(move || {
                let answer = connection.rest();
                assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
                assert!(answer.contains("BODY_TIMEOUT"), "{answer}");
                assert!(answer.contains("x-request-id"), "{answer}");
            });
        }
        // Nobody else waits for them.
        assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
        sandbox.upload("/workspace/other", b"x");
    });
    assert_eq!(api.live(), before);
    sandbox.lacks("/tmp/ran");
    assert_eq!(sandbox.say("cat /workspace/old"), "as it was");
    let all = "find /workspace -mindepth 1 | sort";
    let clean = try_eventually(SOON, || {
        (sandbox.say(all) == "/workspace/old\n/workspace/other").then_some(())
    });
    assert!(clean.is_some(), "left behind: {}", sandbox.say(all));
    assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
}

pub(crate) fn during_exec(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let command = "sleep 600 & echo $! > /tmp/child; echo $$ > /tmp/.leader; \
                   mv /tmp/.leader /tmp/leader; wait";
    let body = json!({ "command": command, "timeout": 300 }).to_string();
    let path = sandbox.at("/exec");
    let connection = Raw::post(
        &api,
        &Request {
            path: &path,
            content_type: "application/json",
            length: body.len(),
            body: body.as_bytes(),
        },
    );
    let leader = eventually("the command runs", || {
        let ran = sandbox.exec("cat /tmp/leader");
        (ran.exit_code == 0).then(|| ran.stdout.trim().to_owned())
    });
    let child = sandbox.say("cat /tmp/child");
    assert!(sandbox.has_process(&leader) && sandbox.has_process(&child));
    drop(connection);
    for pid in [leader, child] {
        eventually(&format!("process {pid} is killed"), || {
            (!sandbox.has_process(&pid)).then_some(())
        });
    }
}

pub(crate) fn during_create(rig: &Rig) {
    let api = rig.api();
    // Of a size that has no seed: one that has is ready before it is left.
    let body = json!({ "timeout_sec": 3600, "name": "left alone", "memory_mb": 640 }).to_string();
    let connection = Raw::post(
        &api,
        &Request {
            path: "/sandboxes?wait=true",
            content_type: "application/json",
            length: body.len(),
            body: body.as_bytes(),
        },
    );
    let record = eventually("the sandbox is recorded", || {
        let answer = api.get("/sandboxes/by-name/left%20alone");
        (answer.status == 200).then(|| answer.ok(200))
    });
    // Before anything was answered.
    assert_eq!(record["state"], "provisioning", "{record}");
    drop(connection);
    let sandbox = Sandbox::known(&api, record);
    sandbox.runs();
    assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
    assert_eq!(api.live(), [sandbox.id.as_str()]);
}
