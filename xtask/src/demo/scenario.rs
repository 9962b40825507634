//! What is shown, step by step.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::api::{Api, DEFAULT_SHAPE, Ran};
use super::leak::Owned;
use super::report::Report;
use super::server::Server;
use super::{memory, terminal};
use crate::patience::patience;

/// Most the clock of a guest may be away from ours: a restored guest that was
/// not told the time is off by hours or days, a round trip is milliseconds.
const CLOCK_TOLERANCE_SEC: u64 = 5;

/// Longest until a sandbox whose create answered "provisioning" is ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Least time between two lines that are written a second apart: a busy machine
/// shortens it, a stream that is held back makes it nothing.
const STREAM_GAP: Duration = Duration::from_millis(500);

/// What the demo's app serves, and where it listens.
const PAGE: &str = "<!doctype html><title>Emberbox</title><p>Served from a microVM</p>\n";
const APP_PORT: u16 = 8000;

/// Bytes the uploaded script writes: more than one chunk of any buffer on the
/// way, every byte value in it.
const OUTPUT_LEN: usize = 1_000_003;

const SCRIPT: &str = "\
import sys
n = int(sys.argv[1])
with open('/workspace/output.bin', 'wb') as f:
    f.write(bytes((i * i + i // 251) % 256 for i in range(n)))
print('wrote', n)
";

/// What is read of a guest to tell it from another, and which of it must
/// differ.
const IDENTITY: [(&str, &str); 6] = [
    ("host name", "hostname"),
    ("machine id", "cat /etc/machine-id"),
    (
        "/dev/urandom",
        "od -An -tx1 -N16 /dev/urandom | tr -d ' \\n'",
    ),
    ("uuid", "cat /proc/sys/kernel/random/uuid"),
    (
        "python random",
        "python3 -c 'import random; print(random.getrandbits(128))'",
    ),
    (
        "python uuid4",
        "python3 -c 'import uuid; print(uuid.uuid4())'",
    ),
];

/// Runs every step; stops at the first that fails.
pub(crate) fn run(server: &mut Server, owned: &mut Owned, report: &mut Report) -> Result<()> {
    report.step("start a server", || server.start())?;
    let api = server.api()?;
    report.note(server.url()?);

    report.step("a VM is restored before anybody asks", || {
        api.wait_prepared(DEFAULT_SHAPE, 1)
    })?;
    let first = create(&api, "demo-1", report)?;
    owned.observe(&server.data_dir())?;
    report.engine(&owned.vmm()?);

    report.step("run python3 -c \"print(1+1)\"", || {
        expect(&api, &first, "python3 -c \"print(1+1)\"", &Ran::ok("2\n"))
    })?;
    files(&api, &first, report)?;
    report.step("a failing command gives its exit code and stderr", || {
        let command = "echo out; echo 'no such thing' >&2; exit 7";
        let expected = Ran {
            stdout: "out\n".to_owned(),
            stderr: "no such thing\n".to_owned(),
            exit_code: 7,
        };
        expect(&api, &first, command, &expected)
    })?;

    streams(&api, &first, report)?;
    terminal(&api, &first, report)?;
    let deployment = publish(&api, &first, report)?;

    let second = create(&api, "demo-2", report)?;
    owned.observe(&server.data_dir())?;
    differ(&api, &first, &second, report)?;

    survive(server, &first, report)?;
    let api = server.api()?;
    report.step("the deployment answers again", || {
        let record = api.get(&format!("/deployments/{deployment}"))?;
        served(&api, &record["data"]["url"])
    })?;
    for sandbox in [&first, &second] {
        let state = api.get(&format!("/sandboxes/{sandbox}"))?["state"].clone();
        ensure!(state == "running", "{sandbox} is {state} after the restart");
    }
    memory::run(server, &second, report)?;
    owned.observe(&server.data_dir())
}

/// Destroys every sandbox and ends the server, also after a failure.
pub(crate) fn clean_up(server: &mut Server, report: &mut Report) -> Result<()> {
    // Sandboxes survive a dead server; only a live one can destroy them.
    if !server.is_running() && server.key_file().exists() {
        server.start()?;
    }
    if server.is_running() {
        report.step("destroy the sandboxes", || destroy_all(&server.api()?))?;
        report.step("end the server", || server.stop())?;
    }
    Ok(())
}

fn destroy_all(api: &Api) -> Result<()> {
    let list = api.get("/sandboxes")?;
    let sandboxes = list["data"].as_array().context("the list has no data")?;
    for sandbox in sandboxes
        .iter()
        .filter(|sandbox| sandbox["state"] != "destroyed")
    {
        let id = id_of(sandbox)?;
        let answer = api.destroy(&id)?;
        ensure!(
            answer["state"] == "destroyed",
            "DELETE {id} says {}",
            answer["state"]
        );
    }
    Ok(())
}

fn create(api: &Api, name: &str, report: &mut Report) -> Result<String> {
    let started = Instant::now();
    let (record, timing, elapsed) = report.step(&format!("create {name}"), || {
        let body = json!({ "name": name, "timeout_sec": 3600 });
        let (record, timing) = api.create_timed(&body)?;
        let record = wait_until_ready(api, record)?;
        Ok((record, timing, started.elapsed()))
    })?;
    let boot_path = record["boot_path"].as_str().unwrap_or("nothing");
    let boot_ms = record["boot_ms"]
        .as_u64()
        .context("no boot_ms in the record")?;
    report.created(elapsed, boot_ms, boot_path);
    report.note(format!("on the server, in ms: {}", readable(&timing)));
    ensure!(
        boot_path == "snapshot",
        "{name} came up by {boot_path}, not from the snapshot"
    );
    id_of(&record)
}

/// `a;dur=1.5, how;desc="x"` as `a 1.5, how x`.
fn readable(timing: &str) -> String {
    let text = timing.replace(";dur=", " ").replace(";desc=", " ");
    text.replace('"', "")
}

fn wait_until_ready(api: &Api, mut record: Value) -> Result<Value> {
    let id = id_of(&record)?;
    let deadline = Instant::now() + patience(READY_DEADLINE);
    while record["ready"] != true {
        ensure!(
            record["state"] == "provisioning" && Instant::now() < deadline,
            "the sandbox does not become ready: {record}"
        );
        std::thread::sleep(Duration::from_millis(2));
        record = api.get(&format!("/sandboxes/{id}"))?;
    }
    ensure!(
        record["state"] == "running",
        "ready, but {}",
        record["state"]
    );
    Ok(record)
}

fn files(api: &Api, sandbox: &str, report: &mut Report) -> Result<()> {
    report.step("upload a script", || {
        api.upload(sandbox, "/workspace/script.py", SCRIPT.as_bytes())
    })?;
    report.step("list and stat it", || {
        let list = api.get(&format!("/sandboxes/{sandbox}/files?path=/workspace"))?;
        let entry = list["data"]["entries"]
            .as_array()
            .and_then(|entries| entries.iter().find(|entry| entry["name"] == "script.py"))
            .with_context(|| format!("script.py is not in {list}"))?
            .clone();
        ensure!(
            entry["path"] == "/workspace/script.py"
                && entry["is_dir"] == false
                && entry["size"] == SCRIPT.len(),
            "the entry is wrong: {entry}"
        );
        let stat = api.post(
            &format!("/sandboxes/{sandbox}/files/stat"),
            &json!({ "path": "/workspace/script.py" }),
        )?;
        ensure!(
            stat["data"]["size"] == SCRIPT.len(),
            "the stat is wrong: {stat}"
        );
        Ok(())
    })?;
    report.step("run it", || {
        let command = format!("python3 /workspace/script.py {OUTPUT_LEN}");
        expect(
            api,
            sandbox,
            &command,
            &Ran::ok(&format!("wrote {OUTPUT_LEN}\n")),
        )
    })?;
    report.step("download its output, byte for byte", || {
        let got = api.download(sandbox, "/workspace/output.bin")?;
        same_bytes(&got, &expected_output())
    })
}

/// Lines have to come while the command runs, not at its end.
fn streams(api: &Api, sandbox: &str, report: &mut Report) -> Result<()> {
    let (gap, exit) = report.step("stream a command's output while it runs", || {
        let (mut seen, mut exit) = (Vec::new(), None);
        let command = "echo first; sleep 1; echo second; exit 4";
        api.exec_stream(sandbox, command, |name, data| match name {
            "stdout" => seen.push((data["line"].clone(), Instant::now())),
            "exit" => exit = data["exit_code"].as_i64(),
            _ => {}
        })?;
        let lines: Vec<_> = seen.iter().map(|(line, _)| line.clone()).collect();
        ensure!(lines == ["first", "second"], "the lines are {lines:?}");
        Ok((seen[1].1 - seen[0].1, exit))
    })?;
    ensure!(exit == Some(4), "the exit code is {exit:?}");
    ensure!(gap >= STREAM_GAP, "the first line was held back: {gap:?}");
    report.note(format!("the second line came {} ms later", gap.as_millis()));
    Ok(())
}

/// What is typed is worked on by a shell with a terminal of its own.
fn terminal(api: &Api, sandbox: &str, report: &mut Report) -> Result<()> {
    let line = report.step("type a line into a terminal", || {
        let session = api.post(
            &format!("/sandboxes/{sandbox}/terminal"),
            &json!({ "cols": 100, "rows": 30 }),
        )?;
        let said = terminal::converse(&session, "tty; stty size; echo sum=$((6*7))\r", "sum=42")?;
        ensure!(
            said.contains("/dev/pts/"),
            "there is no terminal in {said:?}"
        );
        ensure!(said.contains("30 100"), "its size is not in {said:?}");
        Ok("$ echo sum=$((6*7))  →  sum=42")
    })?;
    report.note(line);
    Ok(())
}

/// Starts an app, looks at it and deploys it; the deployment's id.
fn publish(api: &Api, sandbox: &str, report: &mut Report) -> Result<String> {
    report.step("start an app in the sandbox", || {
        api.upload(sandbox, "/workspace/site/index.html", PAGE.as_bytes())?;
        let started = api.post(
            &format!("/sandboxes/{sandbox}/template/start"),
            &json!({
                "workdir": "/workspace/site",
                "port": APP_PORT,
                "start_command": "exec python3 -m http.server $PORT --bind 127.0.0.1",
            }),
        )?;
        ensure!(
            started["data"]["ready"] == true,
            "it does not answer: {started}"
        );
        Ok(())
    })?;
    let url = report.step("see its page under the preview's address", || {
        let path = format!("/sandboxes/{sandbox}/expose");
        let exposed = api.post(&path, &json!({ "port": APP_PORT }))?;
        served(api, &exposed["url"])?;
        Ok(exposed["url"].clone())
    })?;
    report.note(url.as_str().unwrap_or_default());
    let deployment = report.step("deploy it", || {
        let path = format!("/sandboxes/{sandbox}/deploy");
        let made = api.post(&path, &json!({ "name": "demo", "port": APP_PORT }))?;
        served(api, &made["url"])?;
        Ok(made)
    })?;
    report.note(deployment["url"].as_str().unwrap_or_default());
    id_of(&deployment)
}

fn served(api: &Api, url: &Value) -> Result<()> {
    let url = url.as_str().context("there is no address")?;
    let (status, body) = api.page(url)?;
    ensure!(
        status == 200 && body == PAGE,
        "{url} answers {status}: {body}"
    );
    Ok(())
}

fn expected_output() -> Vec<u8> {
    (0..OUTPUT_LEN)
        .map(|i| u8::try_from((i * i + i / 251) % 256).expect("it is below 256"))
        .collect()
}

fn same_bytes(got: &[u8], expected: &[u8]) -> Result<()> {
    ensure!(
        got.len() == expected.len(),
        "{} bytes came back instead of {}",
        got.len(),
        expected.len()
    );
    let wrong = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    ensure!(
        wrong.is_none(),
        "the byte at {} is wrong",
        wrong.unwrap_or_default()
    );
    Ok(())
}

fn differ(api: &Api, first: &str, second: &str, report: &mut Report) -> Result<()> {
    let pairs = report.step("two sandboxes of one snapshot differ", || {
        let mut pairs = Vec::new();
        for (name, command) in IDENTITY {
            let a = api.exec_ok(first, command)?;
            let b = api.exec_ok(second, command)?;
            ensure!(!a.is_empty() && a != b, "{name} is {a:?} and {b:?}");
            pairs.push(format!("{name}: {a} | {b}"));
        }
        for sandbox in [first, second] {
            let theirs: u64 = api.exec_ok(sandbox, "date +%s")?.parse()?;
            let ours = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            ensure!(
                theirs.abs_diff(ours) <= CLOCK_TOLERANCE_SEC,
                "the clock of {sandbox} says {theirs}, ours {ours}"
            );
        }
        Ok(pairs)
    })?;
    for pair in pairs {
        report.note(pair);
    }
    Ok(())
}

/// A file, a running process and the boot id must all be there after the
/// server was killed and started again.
fn survive(server: &mut Server, sandbox: &str, report: &mut Report) -> Result<()> {
    let api = server.api()?;
    let (pid, boot) = report.step("leave a file and a process in the sandbox", || {
        api.upload(sandbox, "/workspace/kept.txt", b"still here\n")?;
        let pid = api.exec_ok(sandbox, "sleep 600 >/dev/null 2>&1 & echo $!")?;
        let boot = api.exec_ok(sandbox, "cat /proc/sys/kernel/random/boot_id")?;
        Ok((pid, boot))
    })?;
    report.step("kill -9 the server", || server.kill())?;
    report.step("start it again", || server.start())?;
    report.step("the sandbox is still there", || {
        let api = server.api()?;
        let record = api.get(&format!("/sandboxes/{sandbox}"))?;
        ensure!(record["state"] == "running", "it is {}", record["state"]);
        expect(
            &api,
            sandbox,
            "cat /workspace/kept.txt",
            &Ran::ok("still here\n"),
        )?;
        expect(&api, sandbox, &format!("kill -0 {pid}"), &Ran::ok(""))?;
        let now = api.exec_ok(sandbox, "cat /proc/sys/kernel/random/boot_id")?;
        ensure!(now == boot, "it is another boot: {boot} and now {now}");
        Ok(())
    })
}

fn expect(api: &Api, sandbox: &str, command: &str, expected: &Ran) -> Result<()> {
    let got = api.exec(sandbox, command)?;
    ensure!(
        got == *expected,
        "{command}: got {got:?}, expected {expected:?}"
    );
    Ok(())
}

fn id_of(record: &Value) -> Result<String> {
    let id = record["id"].as_str();
    Ok(id.with_context(|| format!("no id in {record}"))?.to_owned())
}
