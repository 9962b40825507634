//! What runs in a sandbox's memory: counted on, put on disk, brought back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::api::Api;
use super::report::Report;
use super::server::Server;
use crate::patience::patience;

/// Counts in its memory and says how far it is when it is asked.
const COUNTER: &str = "\
import os, signal, time
count = 0
def tell(*_):
    with open('/tmp/count.new', 'w') as f:
        f.write(str(count))
    os.rename('/tmp/count.new', '/tmp/count')
signal.signal(signal.SIGUSR1, tell)
open('/tmp/ready', 'w').close()
while True:
    count += 1
    time.sleep(0.01)
";

/// Longest until it has counted on.
const COUNTS: Duration = Duration::from_secs(30);

/// How far it has to count between two looks, to be sure which is which.
const STRIDE: u64 = 50;

/// Snapshot, count on, restore; pause, kill the server, resume.
pub(super) fn run(server: &mut Server, sandbox: &str, report: &mut Report) -> Result<()> {
    let api = server.api()?;
    let pid = report.step("start a process that counts in its memory", || {
        api.upload(sandbox, "/workspace/counter.py", COUNTER.as_bytes())?;
        // Before it listens to signals, one would end it.
        let start = "python3 /workspace/counter.py >/dev/null 2>&1 & echo $!; \
                     until [ -e /tmp/ready ]; do sleep 0.01; done";
        let pid = api.exec_ok(sandbox, start)?;
        reaches(&api, sandbox, &pid, STRIDE)?;
        Ok(pid)
    })?;

    let path = format!("/sandboxes/{sandbox}");
    let (snapshot, then) = report.step("take a snapshot while it counts", || {
        let answer = api.post(&format!("{path}/snapshots"), &json!({ "comment": "demo" }))?;
        let snapshot = answer["data"].clone();
        let then = count(&api, sandbox, &pid)?;
        Ok((snapshot, then))
    })?;
    let stopped = snapshot["stopped_ms"].as_f64().context("no stopped_ms")?;
    report.note(format!("it stood still for {stopped:.1} ms"));
    let far = then + 20 * STRIDE;
    report.step("it counts on", || reaches(&api, sandbox, &pid, far))?;
    report.step("restored: the count is back", || {
        let id = snapshot["id"]
            .as_str()
            .context("a snapshot without an id")?;
        let restored = api.post(&format!("{path}/restore/{id}"), &json!({}))?;
        ensure!(restored["id"] == sandbox, "{restored}");
        let now = count(&api, sandbox, &pid)?;
        ensure!(
            now < far,
            "it was {far} before and is {now} after the restore"
        );
        reaches(&api, sandbox, &pid, now + STRIDE)
    })?;

    let before = report.step("pause it: its memory is on disk, no VM is left", || {
        let before = count(&api, sandbox, &pid)?;
        let paused = api.post(&format!("{path}/pause"), &json!({}))?;
        ensure!(paused["state"] == "paused", "{paused}");
        Ok(before)
    })?;
    report.step("kill the server and start it again", || {
        server.kill()?;
        server.start()
    })?;
    let api = server.api()?;
    report.step("resumed: the same process counts on", || {
        let resumed = api.post(&format!("{path}/resume"), &json!({}))?;
        ensure!(resumed["state"] == "running", "{resumed}");
        let now = count(&api, sandbox, &pid)?;
        ensure!(
            now >= before,
            "it was {before} and is {now} after the resume"
        );
        reaches(&api, sandbox, &pid, now + STRIDE)
    })
}

/// Asks the process how far it is.
fn count(api: &Api, sandbox: &str, pid: &str) -> Result<u64> {
    let ask = format!(
        "rm -f /tmp/count; kill -USR1 {pid}; \
         until [ -e /tmp/count ]; do sleep 0.01; done; cat /tmp/count"
    );
    let count = api.exec_ok(sandbox, &ask)?;
    count
        .parse()
        .with_context(|| format!("{count:?} is no count"))
}

fn reaches(api: &Api, sandbox: &str, pid: &str, least: u64) -> Result<()> {
    let deadline = Instant::now() + patience(COUNTS);
    loop {
        let now = count(api, sandbox, pid)?;
        if now >= least {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "it is at {now} and not at {least}"
        );
    }
}
