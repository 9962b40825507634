//! Commands in a sandbox.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::sandbox::{Ran, Sandbox};
use crate::rig::{Rig, eventually};

/// Longest a command that does nothing may take on a loaded machine; far below
/// what the background children here live.
const AT_ONCE: Duration = Duration::from_secs(15);

pub(crate) fn basics(rig: &Rig) {
    let api = rig.api();
    let body = json!({ "timeout_sec": 3600, "env": { "GREETING": "hello there", "WHO": "all" } });
    let sandbox = Sandbox::with(&api, &body);
    let failed = sandbox.exec("echo out; echo err >&2; exit 7");
    let expected = Ran {
        stdout: "out\n".to_owned(),
        stderr: "err\n".to_owned(),
        exit_code: 7,
    };
    assert_eq!(failed, expected);
    assert_eq!(sandbox.exec("kill -9 $$").exit_code, 128 + 9);
    assert_eq!(sandbox.exec("no-such-program").exit_code, 127);

    assert_eq!(sandbox.exec("pwd"), Ran::ok("/root\n"));
    for field in ["cwd", "working_dir"] {
        let ran = sandbox.exec_with(&json!({ "command": "pwd", field: "/tmp" }));
        assert_eq!(ran, Ran::ok("/tmp\n"), "{field}");
    }

    let show = "echo \"$GREETING, $WHO, $MORE\"";
    let body = json!({ "command": show, "env": { "WHO": "one", "MORE": "a'b\"c" } });
    assert_eq!(
        sandbox.exec_with(&body),
        Ran::ok("hello there, one, a'b\"c\n")
    );
    assert_eq!(sandbox.exec(show), Ran::ok("hello there, all, \n"));

    assert_eq!(sandbox.exec("python3 -c 'print(1+1)'"), Ran::ok("2\n"));
    // A command that reads its input meets its end.
    assert_eq!(sandbox.exec("cat"), Ran::ok(""));
    let long = sandbox.exec("head -c 3000000 /dev/zero | tr '\\0' x");
    assert_eq!(long.stdout.len(), 3_000_000);
    assert!(long.stdout.bytes().all(|byte| byte == b'x'));
}

pub(crate) fn timeout(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let command = "sleep 600 & echo $! > /tmp/child; echo $$ > /tmp/leader; wait";
    let asked = Instant::now();
    let answer = api.post(
        &sandbox.at("/exec"),
        &json!({ "command": command, "timeout": 1 }),
    );
    let took = asked.elapsed();
    let error = answer.refused(504, "EXEC_TIMEOUT");
    assert!(
        error["message"].as_str().unwrap().contains("1 s"),
        "{error}"
    );
    assert!(
        (Duration::from_secs(1)..AT_ONCE).contains(&took),
        "{took:?}"
    );
    for file in ["/tmp/leader", "/tmp/child"] {
        let pid = sandbox.say(&format!("cat {file}"));
        eventually(&format!("process {pid} of {file} ends"), || {
            (!sandbox.has_process(&pid)).then_some(())
        });
    }
    assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
}

pub(crate) fn background(rig: &Rig) {
    let api = rig.api();
    let sandbox = Sandbox::new(&api);
    let asked = Instant::now();
    // The child keeps the pipes of both streams.
    let pid = sandbox.say("sleep 600 & echo $!");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert!(sandbox.has_process(&pid));
    // It may go on writing to a pipe that nobody reads any more.
    let said = sandbox.say("(while :; do echo noise; sleep 0.01; done) & echo $!");
    // It may have said something before its number was.
    let writer = said.lines().find(|line| *line != "noise").expect(&said);
    assert!(sandbox.has_process(writer));
    assert_eq!(sandbox.exec("echo alive"), Ran::ok("alive\n"));
    assert!(sandbox.has_process(writer));
}
