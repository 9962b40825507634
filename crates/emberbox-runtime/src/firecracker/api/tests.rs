use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::open;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn api(dir: &Path) -> Api {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    Api::in_root(open(dir, flags, Mode::empty()).unwrap())
}

/// Answers one request with these bytes.
fn answers(dir: &Path, bytes: Vec<u8>) {
    let listener = UnixListener::bind(dir.join(SOCKET)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        // A client that has heard enough goes away.
        let _ = stream.write_all(&bytes).await;
    });
}

#[tokio::test]
async fn only_a_socket_is_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let api = api(dir.path());
    assert!(!api.listens().await);
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("other.sock");
    let _other = UnixListener::bind(&target).unwrap();
    symlink(&target, dir.path().join(SOCKET)).unwrap();
    assert!(!api.listens().await);
    std::fs::remove_file(dir.path().join(SOCKET)).unwrap();
    std::fs::write(dir.path().join(SOCKET), "").unwrap();
    assert!(!api.listens().await);
    std::fs::remove_file(dir.path().join(SOCKET)).unwrap();
    let _own = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    assert!(api.listens().await);
}

#[tokio::test]
async fn a_refusal_says_why() {
    let cases = [
        (
            &b"HTTP/1.1 400 \r\nContent-Length: 27\r\n\r\n{\"fault_message\":\"not now\"}"[..],
            "not now",
        ),
        (
            b"HTTP/1.1 500 \r\nContent-Length: 7\r\n\r\noh dear",
            "500 Internal Server Error oh dear",
        ),
        (
            b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
            "404 Not Found",
        ),
    ];
    for (answer, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        answers(dir.path(), answer.to_vec());
        let error = api(dir.path()).call(&Call::Pause).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let length = MAX_ANSWER * 4;
    let mut answer = format!("HTTP/1.1 200 \r\nContent-Length: {length}\r\n\r\n").into_bytes();
    answer.extend(vec![b' '; length]);
    answers(dir.path(), answer);
    let error = api(dir.path()).instance().await.unwrap_err();
    assert!(matches!(error, ApiError::NoAnswer(_)), "{error}");
}
