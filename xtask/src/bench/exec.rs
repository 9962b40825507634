//! How soon a streamed command's output arrives, and what idle streams cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use serde_json::json;

use super::process::Memory;
use super::report::{Bound, Findings, Target};
use super::{Measure, ON_DEMAND, id_of, served};
use crate::demo::api::Api;
use crate::demo::server::Server;
use crate::setup::Product;

/// Lines whose way is timed.
const LINES: usize = 50;
/// Tries to read the guest's clock; the quickest counts.
const CLOCK_READS: usize = 30;
/// Idle streams that are held open at once.
const STREAMS: usize = 1000;

/// How soon a streamed line arrives, and what an idle stream costs.
#[derive(clap::Args)]
pub(crate) struct Exec {}

impl Measure for Exec {
    fn measure(&self, product: &Product) -> Result<Findings> {
        served(product, ON_DEMAND, measure)
    }
}

fn measure(server: &Server) -> Result<Findings> {
    let api = server.api()?;
    let sandbox = api.create(&json!({}))?;
    let id = id_of(&sandbox)?;
    let clock = Clock::read(&api, id)?;
    let delays = delays(&api, id, &clock)?;
    let stream_kib = idle_streams(server, &api, id)?;
    api.destroy(id)?;
    let mut found = Findings::of(format!("{LINES} lines"));
    let delay = found.spread("written in the guest to event here", "ms", delays)?;
    let error_ms = clock.error * 1000.0;
    found.one("how far the guest's clock may be misread", "ms", error_ms);
    let stream = format!("server memory of one of {STREAMS} idle streams");
    found.one(&stream, "KiB", stream_kib);
    found.targets = vec![
        Target::new(
            "first byte of a streamed command, p50",
            Bound::AtMost(5.0),
            "ms",
            delay.spread.p50,
        )
        .beside(format!("the clock's reading: ± {error_ms:.1} ms")),
        Target::new(&stream, Bound::AtMost(64.0), "KB", stream_kib * KIB_TO_KB),
    ];
    Ok(found)
}

/// The target is in decimal kilobytes.
const KIB_TO_KB: f64 = 1.024;

/// How the guest's clock stands to ours, in seconds.
struct Clock {
    /// What to take from the guest's to have ours.
    ahead: f64,
    error: f64,
}

impl Clock {
    /// The guest's time lies between the question and the answer: the quickest
    /// exchange says most.
    fn read(api: &Api, id: &str) -> Result<Self> {
        let script = "while read -r _; do echo $EPOCHREALTIME; done";
        let path = format!("/sandboxes/{id}/processes");
        let started = api.post(&path, &json!({ "command": script }))?;
        let pid = started["data"]["pid"].clone();
        let mut best = Self {
            ahead: 0.0,
            error: f64::INFINITY,
        };
        let mut asked = Vec::new();
        let mut answered: Vec<(f64, f64)> = Vec::new();
        std::thread::scope(|scope| -> Result<()> {
            let asking = scope.spawn(|| -> Result<Vec<f64>> {
                let mut asked = Vec::new();
                for _ in 0..CLOCK_READS {
                    asked.push(now());
                    let line = json!({ "data": "\n" });
                    api.post(&format!("{path}/{pid}/stdin"), &line)?;
                    // The next question waits until this one is answered.
                    std::thread::sleep(Duration::from_millis(100));
                }
                api.post(
                    &format!("{path}/{pid}/stdin"),
                    &json!({ "data": "", "close": true }),
                )?;
                Ok(asked)
            });
            let stream = format!("{path}/{pid}/stream");
            api.events(&stream, |name, data| {
                if name == "stdout"
                    && let Some(time) = data["line"].as_str().and_then(|text| text.parse().ok())
                {
                    answered.push((time, now()));
                }
            })?;
            asked = asking.join().expect("the asking thread does not panic")?;
            Ok(())
        })?;
        ensure!(
            asked.len() == answered.len(),
            "some questions got no answer"
        );
        for (asked, (theirs, answered)) in asked.into_iter().zip(answered) {
            let error: f64 = (answered - asked) / 2.0;
            if error < best.error {
                best = Self {
                    ahead: theirs - (asked + answered) / 2.0,
                    error,
                };
            }
        }
        Ok(best)
    }
}

/// Milliseconds from the write of a line to its event, for each line.
fn delays(api: &Api, id: &str, clock: &Clock) -> Result<Vec<f64>> {
    let script = format!("for i in {{1..{LINES}}}; do echo $EPOCHREALTIME; sleep 0.1; done");
    let mut delays = Vec::new();
    api.exec_stream(id, &script, |name, data| {
        if name == "stdout"
            && let Some(theirs) = data["line"]
                .as_str()
                .and_then(|text| text.parse::<f64>().ok())
        {
            delays.push((now() - (theirs - clock.ahead)) * 1000.0);
        }
    })?;
    ensure!(delays.len() == LINES, "only {} lines came", delays.len());
    Ok(delays)
}

/// What the server's memory grows by for each of many idle streams, in KiB.
fn idle_streams(server: &Server, api: &Api, id: &str) -> Result<f64> {
    let before = Memory::of(server.pid()?)?.rss_kib;
    let address = server.url()?.trim_start_matches("http://").to_owned();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(open(&address, api.bearer(), id)?);
    }
    let after = Memory::of(server.pid()?)?.rss_kib;
    drop(streams);
    Ok((after - before) / STREAMS as f64)
}

/// A stream of events that has said its first word.
fn open(address: &str, bearer: &str, id: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /api/v1/sandboxes/{id}/events HTTP/1.1\r\nhost: {address}\r\n\
         authorization: {bearer}\r\naccept: text/event-stream\r\n\r\n"
    )?;
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    while !seen.windows(13).any(|part| part == b"state_changed") {
        ensure!(Instant::now() < deadline, "a stream says nothing");
        let mut part = [0; 1024];
        let read = stream.read(&mut part)?;
        ensure!(
            read > 0,
            "a stream was refused: {}",
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&part[..read]);
    }
    Ok(stream)
}

/// Seconds since the epoch.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
