use super::*;

/// A server that sends as much as it is told, on loopback.
async fn server(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut word = [0; 5];
                client.read_exact(&mut word).await.unwrap();
                // Who was cut off does not take it all.
                let _ = client.write_all(&vec![b'x'; bytes]).await;
            });
        }
    });
    address
}

/// What comes back for a request, and for a word in the tunnel it opens.
async fn ask(guard: &Guard, request: &str, authorized: bool) -> (String, usize) {
    let mut client = TcpStream::connect(guard.address).await.unwrap();
    let credentials = if authorized {
        format!("proxy-authorization: {}\r\n", guard.state.credentials)
    } else {
        "Proxy-Authorization: Basic Z3Vlc3Q6\r\n".to_owned()
    };
    let request = format!("{request}\r\n{credentials}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut client).await.unwrap();
    let status = head.lines().next().unwrap().to_owned();
    let mut answer = Vec::new();
    if status.contains("200") {
        client.write_all(b"hello").await.unwrap();
        // An end is an end, however it comes.
        let _ = client.read_to_end(&mut answer).await;
    }
    (status, answer.len())
}

#[tokio::test]
async fn a_client_reaches_what_is_allowed_and_gets_what_is_allowed() {
    let address = server(100_000).await;
    let guard = Guard::open(|address| address.is_loopback()).await.unwrap();
    let connect = format!("CONNECT localhost:{} HTTP/1.1", address.port());
    // The name may stand for an address this server does not listen on, too.
    guard.allow(100_001);
    let (status, bytes) = ask(&guard, &connect, true).await;
    assert!(status.contains("200"), "{status}");
    assert_eq!(bytes, 100_000);
    assert!(!guard.is_exhausted());
    for allowed in [100_000, 50_000, 0] {
        guard.allow(allowed);
        let (_, bytes) = ask(&guard, &connect, true).await;
        assert!(bytes as u64 <= allowed && bytes < 100_000, "{bytes}");
        assert!(guard.is_exhausted(), "{allowed}");
    }
    assert!(!guard.has_refused());
}

#[tokio::test]
async fn nobody_else_goes_out_and_nowhere_else() {
    let address = server(1).await;
    let guard = Guard::open(|address| !address.is_loopback()).await.unwrap();
    guard.allow(u64::MAX);
    let connect = format!("CONNECT {address} HTTP/1.1");
    let (status, _) = ask(&guard, &connect, false).await;
    assert!(status.contains("407"), "{status}");
    assert!(!guard.has_refused());
    let (status, _) = ask(&guard, &format!("GET http://{address}/ HTTP/1.1"), true).await;
    assert!(status.contains("403"), "{status}");
    for request in ["CONNECT here HTTP/1.1", "CONNECT here:99999 HTTP/1.1"] {
        let (status, _) = ask(&guard, request, true).await;
        assert!(status.contains("400"), "{request}: {status}");
    }
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let connect = format!("CONNECT {host}:{} HTTP/1.1", address.port());
        let (status, _) = ask(&guard, &connect, true).await;
        assert!(status.contains("403"), "{host}: {status}");
    }
    assert!(guard.has_refused());
    let late = timeout(Duration::from_secs(30), async {
        let mut client = TcpStream::connect(guard.address).await.unwrap();
        // Longer than any request, and without an end.
        let _ = client.write_all(&[b'a'; 2 * HEAD]).await;
        let _ = client.read(&mut [0; 1]).await;
    });
    late.await.expect("it is not listened to for ever");
}

#[tokio::test]
async fn it_closes_with_its_client() {
    let guard = Guard::open(|_| true).await.unwrap();
    let address = guard.address;
    drop(guard);
    let gone = timeout(Duration::from_secs(30), async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("it is closed");
}
