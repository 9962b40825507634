//! Who asks: as cheap as can be, so that the server is what is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::sleep_until;

/// A request that sends no body.
pub(crate) fn get(path: &str, key: &str) -> Vec<u8> {
    request("GET", path, key, "")
}

/// A request that sends JSON.
pub(crate) fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    request("POST", path, key, body)
}

fn request(method: &str, path: &str, key: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n\
         authorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    head.into_bytes()
}

/// Runs on this thread alone.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, future)
}

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// A connection that sends one request after the other.
pub(crate) struct Asker {
    stream: TcpStream,
    buffer: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

impl Asker {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::with_capacity(1 << 16),
        }
    }

    pub(crate) async fn connect_many(address: SocketAddr, count: usize) -> Vec<Self> {
        join_all((0..count).map(|_| Self::connect(address))).await
    }

    /// The answer, which must be a success.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Answer {
        let body = self.answer(request).await;
        Answer {
            body: self.buffer[body..].to_vec(),
        }
    }

    /// Where the body of the answer begins in the buffer.
    async fn answer(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(read, 0, "the server closed the connection");
            if let Some((body, length)) = head(&self.buffer)
                && self.buffer.len() >= body + length
            {
                return body;
            }
        }
    }
}

/// How long a head and its body are, once the head is whole.
fn head(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let status = head.get(9..12).unwrap();
    assert!(status.starts_with('2'), "{head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    Some((end + 4, length.unwrap()))
}

/// Requests a second, over all connections at the same time.
pub(crate) async fn rate(askers: &mut [Asker], request: &[u8], lasts: Duration) -> f64 {
    let began = Instant::now();
    let counts = join_all(askers.iter_mut().map(async |asker| {
        let mut count = 0_u32;
        while began.elapsed() < lasts {
            asker.answer(request).await;
            count += 1;
        }
        count
    }));
    let count: u32 = counts.await.into_iter().sum();
    f64::from(count) / began.elapsed().as_secs_f64()
}

/// So many requests, one after the other of these, over all connections at the
/// same time.
pub(crate) async fn many(askers: &mut [Asker], requests: &[Vec<u8>], count: usize) {
    let connections = askers.len();
    join_all(askers.iter_mut().enumerate().map(async |(first, asker)| {
        for number in (first..count).step_by(connections) {
            asker.answer(&requests[number % requests.len()]).await;
        }
    }))
    .await;
}

/// How long each of `count` requests takes that are sent at this pace, one after
/// the other of these, counted from when it was due: what one waits for another
/// is part of it.
pub(crate) async fn paced(
    address: SocketAddr,
    requests: &[Vec<u8>],
    per_second: u32,
    count: u32,
) -> Vec<f64> {
    let mut idle = Asker::connect_many(address, 1).await;
    let mut asked = Vec::with_capacity(count as usize);
    let (back, mut returned) = tokio::sync::mpsc::unbounded_channel();
    let first = tokio::time::Instant::now();
    for number in 0..count {
        let due = first + Duration::from_secs(1) * number / per_second;
        sleep_until(due).await;
        while let Ok(asker) = returned.try_recv() {
            idle.push(asker);
        }
        let asker = match idle.pop() {
            Some(asker) => asker,
            None => Asker::connect(address).await,
        };
        let request = requests[number as usize % requests.len()].clone();
        let back = back.clone();
        asked.push(tokio::task::spawn_local(async move {
            let mut asker = asker;
            asker.answer(&request).await;
            let took = milliseconds(due.into_std());
            let _nobody_left = back.send(asker);
            took
        }));
    }
    let asked = join_all(asked).await;
    asked.into_iter().map(Result::unwrap).collect()
}
