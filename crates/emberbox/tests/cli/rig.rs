//! The binary, and a made-up server for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

pub(crate) const SANDBOX: &str = "sbx_01j9xr2t4fk8me3n5qv7w8x9y0";

pub(crate) fn emberbox() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emberbox"));
    for name in [
        "EMBERBOX_URL",
        "EMBERBOX_API_KEY",
        "MIOSA_BASE_URL",
        "MIOSA_API_KEY",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The binary as a client of the server at `url`.
pub(crate) fn emberbox_at(url: &str, arguments: &[&str]) -> Command {
    let mut command = emberbox();
    command
        .args(arguments)
        .env("EMBERBOX_URL", url)
        .env("EMBERBOX_API_KEY", "the-key");
    command
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// What a made-up server was asked: the first line, the headers and the body.
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// A server that gives one answer to one request.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: JoinHandle<Asked>,
}

impl Server {
    pub(crate) fn answering(status: &'static str, body: &str) -> Self {
        Self::sending("application/json", status, body)
    }

    /// One that tells events and then has no more.
    pub(crate) fn telling(events: &str) -> Self {
        Self::sending("text/event-stream", "200 OK", events)
    }

    /// One that tells events and goes on saying nothing, until it is left.
    pub(crate) fn staying(events: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let events = events.to_owned();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = read(&stream);
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}");
            stream.write_all(answer.as_bytes()).unwrap();
            // A killed client may leave a reset instead of an end.
            let _left = stream.read_to_end(&mut Vec::new());
            asked
        });
        Self { url, asked }
    }

    fn sending(kind: &'static str, status: &'static str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let body = body.to_owned();
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = read(&stream);
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            asked
        });
        Self { url, asked }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        emberbox_at(&self.url, arguments)
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn asked(self) -> Asked {
        self.asked.join().unwrap()
    }
}

/// What one of several requests is answered: type, status, and the body, which
/// may take its time.
pub(crate) type Answer = (&'static str, &'static str, Box<dyn FnOnce() -> String>);

/// A server that answers any number of requests, several at once. Its thread
/// ends with the test's process.
pub(crate) fn answering_all(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (answer, lines) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
    let asked_for = Arc::clone(&lines);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, lines) = (Arc::clone(&answer), Arc::clone(&asked_for));
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let asked = read(&stream);
                lines.lock().unwrap().push(asked.line.clone());
                let (kind, status, body) = answer(&asked);
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
                // The client may have gone.
                let _ = stream.write_all(body().as_bytes());
            });
        }
    });
    (url, lines)
}

pub(crate) fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut headers = String::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        let header = header.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        headers += &header;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Asked {
        line,
        headers,
        body,
    }
}

pub(crate) fn event(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// The client writes everything but letters and digits in percent form.
pub(crate) fn encoded(id: &str) -> String {
    id.replace('_', "%5F")
}
