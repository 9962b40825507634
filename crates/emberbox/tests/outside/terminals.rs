//! Terminals, as people use them.

use serde_json::{Value, json};

use crate::rig::eyes::{Eyes, address};
use crate::rig::sandbox::Sandbox;
use crate::rig::server::Server;
use crate::rig::{Rig, eventually};

/// A token of the right shape that nobody signed: `{"alg":"none"}`, for
/// everything, expired long ago.
const UNSIGNED: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJleHAiOjF9.";

fn open(sandbox: &Sandbox<'_>, body: &Value) -> Value {
    sandbox.api.post(&sandbox.at("/terminal"), body).ok(201)
}

fn session(terminal: &Value) -> &str {
    terminal["session_id"].as_str().unwrap()
}

/// Waits for the shell, which says nothing of its own that could be known.
#[track_caller]
fn shell_answers(eyes: &mut Eyes) {
    // What is typed is echoed, what is computed is answered.
    eyes.types("echo ready-$((40+2))\r");
    eyes.until("ready-42\r\n");
}

fn sleeps(sandbox: &Sandbox<'_>) -> bool {
    sandbox.exec("pgrep -x sleep").exit_code == 0
}

#[track_caller]
fn eventually_sleeps(sandbox: &Sandbox<'_>) {
    eventually("sleep runs", || sleeps(sandbox).then_some(()));
}

#[track_caller]
fn eventually_nothing_sleeps(sandbox: &Sandbox<'_>) {
    eventually("sleep is gone", || (!sleeps(sandbox)).then_some(()));
}

pub(crate) fn a_shell_for_people(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let terminal = open(&sandbox, &json!({ "cols": 100, "rows": 30, "cwd": "/tmp" }));
    let expires = terminal["stream_auth_expires_at"].as_str().unwrap();
    assert!(expires.ends_with('Z'), "{terminal}");
    let mut eyes = Eyes::at(&terminal, "");
    shell_answers(&mut eyes);
    eyes.types("echo $PWD $TERM; stty size; tty\r");
    eyes.until("/tmp xterm");
    eyes.until("30 100\r\n");
    eyes.until("/dev/pts/");
    eyes.tells(r#"{"type":"resize","cols":121,"rows":33}"#);
    eyes.types("stty size\r");
    eyes.until("33 121\r\n");
    // Who comes back in another window brings its size.
    eyes.says_goodbye();
    let mut eyes = Eyes::at(&terminal, "&cols=90&rows=25");
    eyes.until("33 121\r\n");
    eyes.types("stty size\r");
    eyes.until("25 90\r\n");

    eyes.types("sleep 1000\r");
    eventually_sleeps(&sandbox);
    eyes.types("\x03");
    eyes.types("echo status-$?\r");
    eyes.until("status-130\r\n");
    assert!(!sleeps(&sandbox));
    eyes.types("echo ümlaut-$((1+1)) | cat -A\r");
    eyes.until("M-CM-<mlaut-2$");
    eyes.types("exit 9\r");
    assert_eq!(eyes.closed(), (1000, "exit code 9".to_owned()));
    let gone = Eyes::on(&address(&terminal, ""), None).err().unwrap();
    gone.refused(404, "TERMINAL_NOT_FOUND");
}

pub(crate) fn programs_that_own_the_screen(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let terminal = open(&sandbox, &json!({}));
    let mut eyes = Eyes::at(&terminal, "");
    shell_answers(&mut eyes);
    eyes.types("vi /workspace/note\r");
    eyes.until("[New");
    eyes.types("ihello from vi\x1b:wq\r");
    eventually("the note is saved", || {
        let ran = sandbox.exec("cat /workspace/note");
        (ran.stdout == "hello from vi\n").then_some(())
    });
    shell_answers(&mut eyes);
    eyes.types("top\r");
    eyes.until("load average");
    eyes.until("COMMAND");
    eyes.types("q");
    shell_answers(&mut eyes);
    assert_ne!(sandbox.exec("pgrep -x top").exit_code, 0);
}

pub(crate) fn who_may_look(rig: &Rig) {
    let api = rig.api();
    let (sandbox, other) = (Sandbox::new(&api), Sandbox::new(&api));
    let terminal = open(&sandbox, &json!({ "shell": "echo up; exec cat" }));
    let sibling = open(&sandbox, &json!({ "shell": "exec cat" }));
    let foreign = open(&other, &json!({ "shell": "exec cat" }));
    let token = |terminal: &Value| terminal["stream_auth"].as_str().unwrap().to_owned();
    let own = token(&terminal);
    let mut forged = own.clone();
    // The signature's first letter: the last one holds bits that do not count.
    let at = own.rfind('.').unwrap() + 1;
    let letter = if own[at..].starts_with('A') { "B" } else { "A" };
    forged.replace_range(at..=at, letter);
    let garbage = ["", "x", "a.b.c", UNSIGNED].map(str::to_owned);
    for token in garbage
        .into_iter()
        .chain([forged, token(&sibling), token(&foreign)])
    {
        let mut wrong = terminal.clone();
        wrong["stream_auth"] = json!(token);
        let refused = Eyes::on(&address(&wrong, ""), None).err();
        refused
            .unwrap_or_else(|| panic!("{token} opens"))
            .refused(401, "UNAUTHORIZED");
    }
    let stream = sandbox.at("/terminal/stream");
    let keyless = api.with_key("");
    let refused = Eyes::with_key(&keyless, &stream).err().unwrap();
    refused.refused(401, "UNAUTHORIZED");
    let nobodys = format!("{stream}?session_id=0123456789abcdef");
    let refused = Eyes::with_key(&api, &nobodys).err().unwrap();
    refused.refused(404, "TERMINAL_NOT_FOUND");
    // The token is for looking, and for nothing else.
    let bearer = format!("Bearer {own}");
    let path = format!("/api/v1{}", sandbox.at(""));
    api.anything("GET", &path, Some(&bearer))
        .refused(401, "UNAUTHORIZED");
    // The one who looks last looks.
    let mut first = Eyes::at(&terminal, "");
    first.until("up");
    let mut second = Eyes::at(&terminal, "");
    second.until("up");
    assert_eq!(first.closed().0, 4001);
    second.types("still here\r");
    second.until("still here");
}

pub(crate) fn how_they_end(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    // With a key alone a terminal is opened, and ends with its socket.
    let path = sandbox.at("/terminal/stream?cols=77&rows=22");
    let mut eyes = Eyes::with_key(&api, &path).unwrap();
    shell_answers(&mut eyes);
    eyes.types("stty size; sleep 1000 &\r");
    eyes.until("22 77\r\n");
    eventually_sleeps(&sandbox);
    eyes.leave();
    eventually_nothing_sleeps(&sandbox);
    // One that was asked for stays, and ends when that is asked for.
    let terminal = open(&sandbox, &json!({}));
    let mut eyes = Eyes::at(&terminal, "");
    shell_answers(&mut eyes);
    eyes.types("sleep 1000 & sleep 1000\r");
    eventually_sleeps(&sandbox);
    eyes.leave();
    let mut eyes = Eyes::at(&terminal, "");
    eyes.until("ready-42\r\n");
    assert!(sleeps(&sandbox));
    let path = sandbox.at(&format!("/terminal/{}", session(&terminal)));
    assert_eq!(api.delete(&path).status, 204);
    assert_eq!(eyes.closed().0, 1000);
    eventually_nothing_sleeps(&sandbox);
    api.delete(&path).refused(404, "TERMINAL_NOT_FOUND");
    // And all end with the sandbox.
    let terminal = open(&sandbox, &json!({}));
    let mut eyes = Eyes::at(&terminal, "");
    shell_answers(&mut eyes);
    sandbox.destroy();
    let (code, reason) = eyes.closed();
    assert!(matches!(code, 1001 | 1011), "{code} {reason}");
    let refused = Eyes::on(&address(&terminal, ""), None).err().unwrap();
    refused.refused(409, "SANDBOX_NOT_RUNNING");
}

pub(crate) fn outlive_the_server(rig: &Rig) {
    let mut server = Server::start(&rig.binary);
    let api = server.api();
    let sandbox = Sandbox::new(&api);
    let terminal = open(&sandbox, &json!({}));
    let mut eyes = Eyes::at(&terminal, "");
    shell_answers(&mut eyes);
    eyes.types("X=kept; echo before-$((50+5)) $$\r");
    eyes.until("before-55 ");
    let shell = eyes.until("\r\n").trim().to_owned();
    let record = sandbox.record.clone();
    sandbox.keep();
    server.kill_9();
    server.restart();

    let api = server.api();
    let sandbox = Sandbox::known(&api, record);
    // A page that was open comes back with the token it has.
    let mut moved = terminal.clone();
    let base = api.url.replace("http://", "ws://");
    let stream = sandbox.at("/terminal/stream");
    moved["ws_url"] = json!(format!("{base}/api/v1{stream}"));
    Eyes::at(&moved, "").until(&format!("before-55 {shell}\r\n"));
    let path = format!("{stream}?session_id={}", session(&terminal));
    let mut eyes = Eyes::with_key(&api, &path).unwrap();
    eyes.until(&format!("before-55 {shell}\r\n"));
    eyes.types("echo after-$X $$\r");
    eyes.until(&format!("after-kept {shell}\r\n"));
    sandbox.destroy();
    server.finish().unwrap();
}
