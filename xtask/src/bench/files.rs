//! Upload and download of 100 MB beside raw TCP into the same guest, turn by
//! turn, and what the server's memory grows by meanwhile.
//!
//! ```text
//! curl ──HTTP──▶ server ──▶ agent ──▶ file in the guest
//! we ───TCP, from inside the sandbox's network───▶ listener in the guest
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::network::Namespace;
use super::process::{self, Memory};
use super::report::{Bound, Findings, Target};
use super::{Measure, ON_DEMAND, id_of, served, tool};
use crate::demo::server::Server;
use crate::setup::Product;

/// What is moved: just below the default limit of an upload, 100 MiB.
const BYTES: usize = 100_000_000;
/// What is read at a time.
const BLOCK: usize = 1 << 20;
/// Where the guest's listener listens.
const PORT: u16 = 9000;
/// Where the upload goes.
const FILE: &str = "/workspace/upload.bin";
/// Longest that a transfer may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// The targets are in decimal megabytes.
const KIB_TO_MB: f64 = 1.024e-3;

const TOOLS: [tool::Needed; 1] = [("curl", "curl", "uploads and downloads")];

/// What a connection's first byte asks of the listener: to throw away or keep
/// what comes, or to send as much from memory or from the uploaded file.
const LISTENER: &str = r#"
import socket
buffer = memoryview(bytearray(1 << 20))
listener = socket.create_server(("0.0.0.0", 9000))
open("/tmp/listening", "w").close()
while True:
    connection, _ = listener.accept()
    asked = connection.recv(1)
    if asked == b"t":
        while connection.recv_into(buffer):
            pass
        connection.sendall(b".")
    elif asked == b"k":
        with open("/workspace/raw.bin", "wb", buffering=0) as file:
            while read := connection.recv_into(buffer):
                file.write(buffer[:read])
        connection.sendall(b".")
    elif asked == b"m":
        left = 100_000_000
        while left:
            part = min(left, len(buffer))
            connection.sendall(buffer[:part])
            left -= part
    elif asked == b"f":
        with open("/workspace/upload.bin", "rb", buffering=0) as file:
            while read := file.readinto(buffer):
                connection.sendall(buffer[:read])
    connection.close()
"#;

/// Transfers through the API beside raw TCP.
#[derive(clap::Args)]
pub(crate) struct Files {
    /// Transfers of each kind.
    #[arg(long, default_value_t = 7)]
    turns: usize,
}

impl Measure for Files {
    fn measure(&self, product: &Product) -> Result<Findings> {
        tool::install(&TOOLS)?;
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let mut content = vec![0; BYTES];
        rand::fill(&mut content[..]);
        let file = directory.path().join("upload.bin");
        fs::write(&file, &content).context("cannot write what is uploaded")?;
        served(product, ON_DEMAND, |server| {
            measure(server, &content, file, self.turns)
        })
    }
}

fn measure(server: &Server, content: &[u8], file: PathBuf, turns: usize) -> Result<Findings> {
    let api = server.api()?;
    let sandbox = api.create(&json!({ "timeout_sec": 3600 }))?;
    let id = id_of(&sandbox)?;
    api.upload(id, "/workspace/listener.py", LISTENER.as_bytes())?;
    let start = "python3 /workspace/listener.py >/dev/null 2>&1 & \
                 until [ -e /tmp/listening ]; do sleep 0.01; done";
    api.exec_ok(id, start)?;
    let raw = Raw {
        namespace: Namespace::of(&server.data_dir())?,
    };
    let http = Http {
        url: format!("{}/api/v1/sandboxes/{id}/files", server.url()?),
        authorization: format!("authorization: {}", api.bearer()),
        file,
    };
    let pid = server.pid()?;
    let before = Memory::of(pid)?.rss_kib;
    process::forget_peak(pid)?;

    // The first turn warms everything up, and shows that what arrives is what
    // was sent.
    let mut discarded = Taken::default();
    turn(&raw, &http, content, &mut discarded)?;
    let there = api.exec_ok(id, &format!("sha256sum < {FILE}"))?;
    ensure!(
        there == sha256(&http.file)?,
        "the file in the guest is another"
    );
    let back = http.file.with_extension("back");
    http.download(&back)?;
    ensure!(
        fs::read(&back).context("cannot read the download")? == content,
        "the download is another file"
    );

    let mut taken = Taken::default();
    for _ in 0..turns {
        turn(&raw, &http, content, &mut taken)?;
    }
    let grown = process::peak_rss_kib(pid)? - before;
    api.destroy(id)?;
    taken.findings(turns, grown)
}

/// Megabytes per second.
#[derive(Default)]
struct Taken {
    raw_up: Vec<f64>,
    raw_up_kept: Vec<f64>,
    up: Vec<f64>,
    raw_down: Vec<f64>,
    raw_down_file: Vec<f64>,
    down: Vec<f64>,
}

fn turn(raw: &Raw, http: &Http, content: &[u8], taken: &mut Taken) -> Result<()> {
    taken.raw_up.push(raw.send(b't', content)?);
    taken.raw_up_kept.push(raw.send(b'k', content)?);
    taken.up.push(http.upload()?);
    taken.raw_down.push(raw.receive(b'm')?);
    taken.raw_down_file.push(raw.receive(b'f')?);
    taken.down.push(http.download(Path::new("/dev/null"))?);
    Ok(())
}

impl Taken {
    fn findings(self, turns: usize, grown_kib: f64) -> Result<Findings> {
        let mut found = Findings::of(format!("{turns} turns of 100 MB"));
        let raw = "raw TCP into the guest, thrown away there (floor)";
        let raw_up = found.spread(raw, "MB/s", self.raw_up)?;
        let kept = "raw TCP into a file of the guest";
        found.against(&raw_up, kept, self.raw_up_kept)?;
        let up = found.against(&raw_up, "upload through the API", self.up)?;
        let raw = "raw TCP out of the guest's memory (floor)";
        let raw_down = found.spread(raw, "MB/s", self.raw_down)?;
        let file = "raw TCP out of a file of the guest";
        found.against(&raw_down, file, self.raw_down_file)?;
        let down = found.against(&raw_down, "download through the API", self.down)?;
        let grown = "growth of the server's memory meanwhile (peak RSS)";
        found.one(grown, "KiB", grown_kib);
        let at_least = Bound::AtLeast(0.7);
        found.targets = vec![
            Target::new(
                "upload of 100 MB, of raw TCP",
                at_least,
                "",
                up.over(&raw_up),
            )
            .beside(raw_up.as_floor()),
            Target::new(
                "download of 100 MB, of raw TCP",
                at_least,
                "",
                down.over(&raw_down),
            )
            .beside(raw_down.as_floor()),
            Target::new(grown, Bound::AtMost(16.0), "MB", grown_kib * KIB_TO_MB),
        ];
        Ok(found)
    }
}

/// Past the server: from inside the sandbox's network.
struct Raw {
    namespace: Namespace,
}

impl Raw {
    /// Until the guest says that it has all of it.
    fn send(&self, ask: u8, content: &[u8]) -> Result<f64> {
        let started = Instant::now();
        let mut stream = self.namespace.connect(PORT)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.write_all(&[ask])?;
        stream
            .write_all(content)
            .context("the guest stopped reading")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).context("no answer")?;
        ensure!(answer == b".", "the guest answered {answer:?}");
        Ok(rate(started.elapsed().as_secs_f64()))
    }

    fn receive(&self, ask: u8) -> Result<f64> {
        let started = Instant::now();
        let mut stream = self.namespace.connect(PORT)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(&[ask])?;
        let mut block = vec![0; BLOCK];
        let mut got = 0;
        loop {
            match stream
                .read(&mut block)
                .context("the guest stopped sending")?
            {
                0 => break,
                read => got += read,
            }
        }
        ensure!(got == BYTES, "the guest sent {got} bytes");
        Ok(rate(started.elapsed().as_secs_f64()))
    }
}

/// Through the API, as a script would.
struct Http {
    url: String,
    authorization: String,
    file: PathBuf,
}

impl Http {
    fn upload(&self) -> Result<f64> {
        let part = format!("file=@{}", self.file.display());
        let path = format!("path={FILE}");
        let answer = self.curl(&["-F", &path, "-F", &part, &self.url])?;
        rate_of(&answer)
    }

    fn download(&self, to: &Path) -> Result<f64> {
        let to = to.to_str().context("a path that is no text")?;
        let name = FILE.trim_start_matches('/').replace('/', "%2F");
        let answer = self.curl(&["-o", to, &format!("{}/{name}", self.url)])?;
        rate_of(&answer)
    }

    fn curl(&self, arguments: &[&str]) -> Result<String> {
        // `Expect: 100-continue` would be one more round trip.
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "--noproxy", "*", "-H", "expect:"])
            .args(["-w", "\n%{size_upload} %{size_download} %{time_total}"])
            .args(["-H", &self.authorization])
            .args(arguments)
            .output()
            .context("cannot run curl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl: {complaint} {text}");
        Ok(text)
    }
}

/// From what curl says at the end.
fn rate_of(answer: &str) -> Result<f64> {
    let last = answer.lines().next_back().context("curl says nothing")?;
    let numbers: Result<Vec<f64>, _> = last.split(' ').map(str::parse).collect();
    let numbers = numbers.with_context(|| format!("curl says {answer}"))?;
    let [up, down, seconds] = numbers[..] else {
        anyhow::bail!("curl says {answer}");
    };
    // An upload is a little more than its file, and has a short answer.
    ensure!(
        up.max(down) >= BYTES as f64,
        "curl moved only {up} and {down} bytes"
    );
    Ok(rate(seconds))
}

fn rate(seconds: f64) -> f64 {
    BYTES as f64 / 1e6 / seconds
}

/// As `sha256sum` says it of its standard input.
fn sha256(file: &Path) -> Result<String> {
    let file = fs::File::open(file).context("cannot open what was uploaded")?;
    let output = Command::new("sha256sum")
        .stdin(file)
        .output()
        .context("cannot run sha256sum")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
