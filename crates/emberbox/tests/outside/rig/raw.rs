//! A connection that does what no decent client does.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::api::Api;

/// Longest until the server has answered or closed: its own limit on silent
/// bodies is 30 s, and a loaded machine gets some more.
const PATIENCE: Duration = Duration::from_secs(45);

/// One connection with one request on it.
pub(crate) struct Raw(TcpStream);

/// A request whose body need not be what its head says.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    pub(crate) content_type: &'a str,
    /// How long the head says the body is.
    pub(crate) length: usize,
    pub(crate) body: &'a [u8],
}

impl Raw {
    /// Sends a POST and leaves the connection open.
    pub(crate) fn post(api: &Api, request: &Request<'_>) -> Self {
        let host = api.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let head = format!(
            "POST /api/v1{} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
             content-type: {}\r\ncontent-length: {}\r\n\r\n",
            request.path, api.key, request.content_type, request.length
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(request.body).unwrap();
        Self(stream)
    }

    /// Ends our side; the server may still answer.
    pub(crate) fn stop_sending(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Everything until the server closes; fails if it never does.
    pub(crate) fn rest(mut self) -> String {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => {}
            // It closed with our bytes unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server neither answered nor closed: {error}"),
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
