//! A preview beside nginx before the same guest server, turn by turn.
//!
//! Both listen on this machine and reach the guest from inside its network
//! namespace: nginx is started there with a listening socket of the outside.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::network::{GUEST, Namespace};
use super::report::{Bound, Findings, Taken, Target};
use super::{Measure, ON_DEMAND, id_of, served, tool};
use crate::demo::server::Server;
use crate::setup::Product;

/// Where the guest's server listens.
const PORT: u16 = 8000;
/// Where nginx listens.
const NGINX_PORT: u16 = 8081;
/// Turns; each measures every way once.
const TURNS: usize = 5;
/// How long one way is loaded per turn.
const LOAD: &str = "4s";
/// Connections under load.
const CONNECTIONS: &str = "32";
/// What is downloaded.
const DOWNLOAD_BYTES: u64 = 100 * 1000 * 1000;

/// A server that answers at once, and sends a large file: less work than any
/// app does, so that the proxies are what differs.
const GUEST_SERVER: &str = r#"
const http = require("http");
const chunk = Buffer.alloc(1 << 16, 7);
http.createServer((request, response) => {
  if (request.url !== "/large") { response.end("hello\n"); return; }
  let left = 100e6;
  response.setHeader("content-length", left);
  const more = () => {
    while (left > 0) {
      const part = chunk.subarray(0, Math.min(left, chunk.length));
      left -= part.length;
      if (!response.write(part)) { response.once("drain", more); return; }
    }
    response.end();
  };
  more();
}).listen(8000, "0.0.0.0");
"#;

/// What is compared with.
const TOOLS: [tool::Needed; 3] = [
    ("nginx", "nginx-light", "the proxy to compare with"),
    ("wrk", "wrk", "makes the load"),
    ("curl", "curl", "downloads"),
];

/// A preview beside nginx and beside nothing before the same server.
#[derive(clap::Args)]
pub(crate) struct Proxy {}

impl Measure for Proxy {
    fn measure(&self, product: &Product) -> Result<Findings> {
        tool::install(&TOOLS)?;
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir()
            .context("cannot make a directory")?;
        served(product, ON_DEMAND, |server| {
            measure(server, directory.path())
        })
    }
}

/// Of one way to the guest's server.
#[derive(Default)]
struct Samples {
    requests: Vec<f64>,
    latency: Vec<f64>,
    download: Vec<f64>,
}

fn measure(server: &Server, directory: &Path) -> Result<Findings> {
    let api = server.api()?;
    let sandbox = api.create(&json!({ "cpu_count": 1, "timeout_sec": 3600 }))?;
    let id = id_of(&sandbox)?;
    api.upload(id, "/workspace/server.js", GUEST_SERVER.as_bytes())?;
    let started = api.post(
        &format!("/sandboxes/{id}/template/start"),
        &json!({ "start_command": "exec node server.js", "port": PORT }),
    )?;
    ensure!(
        started["data"]["ready"] == true,
        "the guest's server does not answer: {started}"
    );
    let exposed = api.post(&format!("/sandboxes/{id}/expose"), &json!({ "port": PORT }))?;
    let preview = exposed["url"].as_str().context("no address")?.to_owned();

    let namespace = Namespace::of(&server.data_dir())?;
    let mut nginx = Nginx::start(&namespace, directory)?;
    let outcome = turns(&namespace, &preview);
    nginx.stop()?;
    api.destroy(id)?;
    findings(outcome?)
}

fn turns(namespace: &Namespace, preview: &str) -> Result<[Samples; 3]> {
    let direct = format!("http://{GUEST}:{PORT}");
    let proxied = format!("http://127.0.0.1:{NGINX_PORT}");
    let (host, port) = preview
        .strip_prefix("http://")
        .and_then(|rest| rest.rsplit_once(':'))
        .with_context(|| format!("{preview} has no port"))?;
    let outside = format!("http://127.0.0.1:{port}");
    // wrk leaves its own out only if it is spelled like this.
    let host = format!("Host: {host}:{port}");
    let ways: [(&str, Option<&str>, Option<&Namespace>); 3] = [
        (&direct, None, Some(namespace)),
        (&proxied, None, None),
        (&outside, Some(&host), None),
    ];
    let mut samples: [Samples; 3] = Default::default();
    // The first turn warms everything up and is thrown away.
    for turn in 0..=TURNS {
        for ((url, host, within), samples) in ways.iter().zip(&mut samples) {
            let (requests, _) = load(url, *host, *within, CONNECTIONS)?;
            let (_, latency) = load(url, *host, *within, "1")?;
            let download = download(url, *host, *within)?;
            if turn > 0 {
                samples.requests.push(requests);
                samples.latency.push(latency);
                samples.download.push(download);
            }
        }
    }
    Ok(samples)
}

/// Requests per second and the median latency in milliseconds.
fn load(
    url: &str,
    host: Option<&str>,
    within: Option<&Namespace>,
    connections: &str,
) -> Result<(f64, f64)> {
    let mut command = command(within, "wrk");
    command.args(["-t", "1", "-c", connections, "-d", LOAD, "--latency"]);
    if let Some(host) = host {
        command.args(["-H", host]);
    }
    let output = command
        .arg(format!("{url}/"))
        .output()
        .context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {text}");
    ensure!(
        !text.contains("Non-2xx"),
        "some answers were errors: {text}"
    );
    let field = |name: &str| -> Result<String> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        Ok(line
            .with_context(|| format!("no {name} in {text}"))?
            .trim()
            .to_owned())
    };
    let requests = field("Requests/sec:")?
        .parse()
        .context("wrk says no number")?;
    Ok((requests, duration_ms(&field("50%")?)?))
}

/// `wrk` writes `812.00us`, `1.23ms` or `1.02s`.
fn duration_ms(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<f64>()
        {
            return Ok(number * factor);
        }
    }
    bail!("{text} is no duration")
}

/// Megabytes per second.
fn download(url: &str, host: Option<&str>, within: Option<&Namespace>) -> Result<f64> {
    let mut command = command(within, "curl");
    command.args([
        "-sS",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download} %{time_total}",
    ]);
    if let Some(host) = host {
        command.args(["-H", host]);
    }
    let output = command
        .arg(format!("{url}/large"))
        .output()
        .context("cannot run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (size, seconds) = text
        .split_once(' ')
        .with_context(|| format!("curl says {text}"))?;
    ensure!(size.parse() == Ok(DOWNLOAD_BYTES), "curl got {size} bytes");
    let seconds: f64 = seconds.trim().parse().context("curl says no time")?;
    Ok(DOWNLOAD_BYTES as f64 / 1e6 / seconds)
}

fn command(within: Option<&Namespace>, program: &str) -> Command {
    match within {
        Some(namespace) => namespace.command(program),
        None => Command::new(program),
    }
}

/// nginx with one worker before the guest's server.
struct Nginx {
    child: Child,
}

impl Nginx {
    fn start(namespace: &Namespace, directory: &Path) -> Result<Self> {
        let prefix = directory.join("nginx");
        fs::create_dir(&prefix).context("cannot make nginx's directory")?;
        let file = prefix.join("nginx.conf");
        fs::write(&file, configuration(&prefix)).context("cannot configure nginx")?;
        // As after an upgrade of its binary, nginx goes on with the sockets it is
        // handed (nginx, "Upgrading Executable on the Fly").
        let listener = TcpListener::bind(("127.0.0.1", NGINX_PORT)).context("cannot listen")?;
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty())?;
        let child = command(Some(namespace), "nginx")
            .arg("-c")
            .arg(&file)
            .env("NGINX", format!("{};", listener.as_raw_fd()))
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        drop(listener);
        let nginx = Self { child };
        let deadline = Instant::now() + Duration::from_secs(20);
        let url = format!("http://127.0.0.1:{NGINX_PORT}/");
        loop {
            let answered = Command::new("curl")
                .args(["-sSf", "--noproxy", "*", "-o", "/dev/null", &url])
                .stderr(Stdio::null())
                .status()?;
            if answered.success() {
                return Ok(nginx);
            }
            ensure!(Instant::now() < deadline, "nginx does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it with its worker.
    fn stop(&mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .context("cannot end nginx")?;
        self.child.wait().context("cannot wait for nginx")?;
        Ok(())
    }
}

/// What an operator would write for an app with uploads, streams and
/// WebSockets: kept connections to the app, nothing buffered.
fn configuration(prefix: &Path) -> String {
    let prefix = prefix.display();
    format!(
        "daemon off; worker_processes 1; user root; pid {prefix}/pid;\n\
         error_log {prefix}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log off; client_body_temp_path {prefix}/body; proxy_temp_path {prefix}/proxy;\n\
           fastcgi_temp_path {prefix}/f; uwsgi_temp_path {prefix}/u; scgi_temp_path {prefix}/s;\n\
           keepalive_requests 1000000;\n\
           upstream guest {{ server {GUEST}:{PORT}; keepalive 64; keepalive_requests 1000000; }}\n\
           server {{\n\
             listen 127.0.0.1:{NGINX_PORT};\n\
             location / {{\n\
               proxy_pass http://guest; proxy_http_version 1.1;\n\
               proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
               proxy_set_header X-Forwarded-For $remote_addr; proxy_buffering off;\n\
             }}\n\
           }}\n\
         }}\n"
    )
}

/// What became of one way.
struct Way {
    requests: Taken,
    latency: Taken,
    download: Taken,
}

impl Way {
    fn add(
        found: &mut Findings,
        name: &str,
        samples: Samples,
        floor: Option<&Self>,
    ) -> Result<Self> {
        let mut row = |measure: &str, unit, samples, floor: Option<&Taken>| {
            let name = format!("{name}: {measure}");
            match floor {
                Some(floor) => found.against(floor, name, samples),
                None => found.spread(name, unit, samples),
            }
        };
        let requests = format!("requests at {CONNECTIONS} connections");
        Ok(Self {
            requests: row(
                &requests,
                "/s",
                samples.requests,
                floor.map(|way| &way.requests),
            )?,
            latency: row(
                "latency of one",
                "ms",
                samples.latency,
                floor.map(|way| &way.latency),
            )?,
            download: row(
                "download of 100 MB",
                "MB/s",
                samples.download,
                floor.map(|way| &way.download),
            )?,
        })
    }
}

fn findings([direct, nginx, preview]: [Samples; 3]) -> Result<Findings> {
    let mut found = Findings::of(format!("{TURNS} turns"));
    let direct = Way::add(&mut found, "direct", direct, None)?;
    let nginx = Way::add(&mut found, "nginx", nginx, Some(&direct))?;
    let preview = Way::add(&mut found, "preview", preview, Some(&direct))?;
    let added = |way: &Way| way.latency.spread.p50 - direct.latency.spread.p50;
    found.targets = vec![
        Target::new(
            "preview: requests per second, of nginx's",
            Bound::AtLeast(0.7),
            "",
            preview.requests.over(&nginx.requests),
        )
        .beside(nginx.requests.as_floor()),
        added_latency(added(&nginx), added(&preview)),
        Target::new(
            "preview: download, of the direct one",
            Bound::AtLeast(0.8),
            "",
            preview.download.over(&direct.download),
        )
        .beside(direct.download.as_floor()),
    ];
    Ok(found)
}

/// In milliseconds over the guest's server alone.
fn added_latency(nginx: f64, preview: f64) -> Target {
    let measure = "preview: added latency of one, p50";
    let most = Bound::AtMost(2.0 * nginx.max(0.0));
    if nginx > 0.0 {
        return Target::new(measure, most, "ms", preview)
            .beside(format!("twice what nginx adds: {nginx:.2} ms"));
    }
    // A median below that of less work is the machine's noise.
    let reason = format!(
        "nginx came out {:.2} ms quicker than nothing before the guest's server",
        -nginx
    );
    Target::missing(measure, most, "ms", reason)
}

#[cfg(test)]
mod tests;
