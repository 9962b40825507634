use std::io;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use emberbox_api::ErrorCode;
use emberbox_guest::Token;
use emberbox_guest::client::{Dial, GuestClient};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::net::TcpStream;

use super::sink::Sink;
use super::upload::read_multipart;
use super::{PATH_MAX, PathError, depth_or, file_name, is_legal_path, json_parts, path::of_url};
use crate::Failure;
use crate::http::body::BodyReader;

#[test]
fn urls_name_files_encoded_or_not() {
    for (url, path) in [
        (
            "/api/v1/sandboxes/x/files/workspace%2Foutput.json",
            "/workspace/output.json",
        ),
        (
            "/api/v1/sandboxes/x/files/workspace/output.json",
            "/workspace/output.json",
        ),
        ("/api/v1/sandboxes/x/files//etc/hosts", "/etc/hosts"),
        ("/api/v1/sandboxes/x/files/%2Fetc%2Fhosts", "/etc/hosts"),
        ("/api/v1/sandboxes/x/files/a/files/b", "/a/files/b"),
        ("/api/v1/sandboxes/x/files/a%20b%23%3Fc", "/a b#?c"),
        ("/api/v1/sandboxes/x/files/100%2525", "/100%25"),
        ("/api/v1/sandboxes/x/files/stat", "/stat"),
    ] {
        assert_eq!(of_url(url).unwrap(), path, "{url}");
    }
    for (url, why) in [
        ("/s/files/a%00b", PathError::Illegal),
        ("/s/files/%ff", PathError::NotUtf8),
    ] {
        assert_eq!(of_url(url), Err(why), "{url}");
        assert_eq!(Failure::from(why).code, ErrorCode::InvalidPath);
    }
}

#[test]
fn names_of_paths() {
    assert_eq!(file_name("/a/b.txt"), "b.txt");
    assert_eq!(file_name("/a/"), "a");
    assert_eq!(file_name("/"), "/");
}

#[test]
fn depths() {
    assert_eq!(depth_or(None, 1).unwrap(), 1);
    assert_eq!(depth_or(Some("3"), 1).unwrap(), 3);
    for bad in ["0", "17", "-1", "x"] {
        assert_eq!(
            depth_or(Some(bad), 1).unwrap_err().code,
            ErrorCode::ValidationError
        );
    }
}

/// Largest file of the uploads below, in bytes: less than some of their bodies.
const FILE_MAX: u64 = 64;

/// A guest that is not there: what comes through whole is refused by it.
struct Nowhere;

#[async_trait]
impl Dial for Nowhere {
    async fn dial(&self) -> io::Result<TcpStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// Why an upload whose body comes in these pieces is refused.
fn refused(pieces: Vec<Vec<u8>>, boundary: Option<&str>) -> Failure {
    let pieces = pieces
        .into_iter()
        .map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
    let body = Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
    let mut body = BodyReader::new(body, 1 << 20, ErrorCode::FileTooLarge);
    let sink = Sink::new(GuestClient::new(Nowhere, Token::UNCLAIMED), FILE_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = runtime.unwrap().block_on(async {
        match boundary {
            Some(boundary) => read_multipart(&mut body, boundary.to_owned(), sink).await,
            None => json_parts::read(&mut body, sink).await,
        }
    });
    outcome.expect_err("there is no guest to write to")
}

/// A body of fragments that a parser may take for its own, and of noise.
fn body(fragments: &'static [&'static str]) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let fragment = select(fragments).prop_map(|text| text.as_bytes().to_vec());
    let piece = prop_oneof![8 => fragment, 1 => vec(any::<u8>(), 0..80)];
    vec(piece, 0..24)
}

const MULTIPART: &[&str] = &[
    "--x\r\n",
    "--x--\r\n",
    "\r\n--x",
    "\r\n",
    "\r\n\r\n",
    "Content-Disposition: form-data; name=\"path\"\r\n\r\n",
    "Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n",
    "Content-Disposition: form-data; name=\"\u{ff}",
    "Content-Type: text/plain; charset=\"\r\n",
    "--x\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n/a/b\r\n",
    "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ncontent\r\n",
    "--x\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n\r\n",
    "/a\0b",
    "relative",
];

const JSON: &[&str] = &[
    "{",
    "}",
    "\"path\":",
    "\"content\":",
    "\"/a/b\"",
    "\"eHh4\"",
    "\"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4\"",
    ",",
    "[",
    "]",
    "null",
    "1e999",
    "\\u0000",
    "\"",
    "{\"path\":\"/a\",",
    "{\"content\":\"eHh4\",\"path\":",
];

proptest! {
    #[test]
    fn no_multipart_body_is_more_than_refused(pieces in body(MULTIPART)) {
        let failure = refused(pieces, Some("x"));
        let expected = [
            ErrorCode::InvalidMultipart,
            ErrorCode::InvalidPath,
            ErrorCode::ValidationError,
            ErrorCode::FileTooLarge,
            ErrorCode::SandboxUnreachable,
        ];
        prop_assert!(expected.contains(&failure.code), "{}: {}", failure.code, failure.chain());
    }

    #[test]
    fn no_json_body_is_more_than_refused(pieces in body(JSON)) {
        let failure = refused(pieces, None);
        let expected = [
            ErrorCode::InvalidJson,
            ErrorCode::InvalidPath,
            ErrorCode::ValidationError,
            ErrorCode::FileTooLarge,
            ErrorCode::SandboxUnreachable,
        ];
        prop_assert!(expected.contains(&failure.code), "{}: {}", failure.code, failure.chain());
    }

    #[test]
    fn every_url_is_a_legal_path_or_refused(url in "/s/files/(%[0-9a-fA-F]{2}|%|[ -~]|/|\\.\\.|\\PC){0,40}") {
        if let Ok(path) = of_url(&url) {
            prop_assert!(is_legal_path(&path) && path.len() <= PATH_MAX);
        }
    }
}
