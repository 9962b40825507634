use std::net::{Ipv4Addr, Ipv6Addr};

use emberbox_guest::frame;
use emberbox_guest::{Request, ToAgent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{Guest, Wire, eventually, refusal, token};

/// A server that sends back what it got, once it got all of it.
async fn echo_at_end(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        });
    }
}

async fn echo_server(address: impl Into<IpAddr>) -> u16 {
    let listener = TcpListener::bind((address.into(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(echo_at_end(listener));
    port
}

#[tokio::test]
async fn bytes_and_each_end_go_through() {
    let guest = Guest::claimed().await;
    for port in [
        echo_server(Ipv4Addr::LOCALHOST).await,
        echo_server(Ipv6Addr::LOCALHOST).await,
    ] {
        let mut stream = guest.client.connect(port).await.unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        stream.write_all(&sent).await.unwrap();
        // The answer comes only after this half is closed, over the other one.
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
    }
}

#[tokio::test]
async fn bytes_that_come_with_the_call_are_not_lost() {
    let guest = Guest::claimed().await;
    let port = echo_server(Ipv4Addr::LOCALHOST).await;
    let call = ToAgent::Call {
        token: token(),
        request: Request::Connect { port },
    };
    let mut bytes = Vec::new();
    frame::write(&mut bytes, &call).await.unwrap();
    bytes.extend(b"early");
    let mut wire = guest.wire().await;
    wire.0.write_all(&bytes).await.unwrap();
    wire.0.shutdown().await.unwrap();
    assert_eq!(wire.answer().await, Some(FromAgent::Done));
    let mut back = Vec::new();
    wire.0.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"early");
}

#[tokio::test]
async fn what_nobody_serves_is_refused_and_the_connection_stays() {
    let guest = Guest::claimed().await;
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let closed = unused.local_addr().unwrap().port();
    drop(unused);
    for port in [0, closed, guest.address.port()] {
        let result = guest.client.connect(port).await;
        assert_eq!(refusal(result), GuestErrorCode::ConnectionRefused);
    }
    let mut wire = guest.wire().await;
    for request in [Request::Connect { port: 0 }, Request::Ping] {
        let token = token();
        wire.send(&ToAgent::Call { token, request }).await;
    }
    assert!(matches!(wire.answer().await, Some(FromAgent::Failed(_))));
    assert!(matches!(wire.answer().await, Some(FromAgent::Pong(_))));
}

#[tokio::test]
async fn an_unclaimed_guest_connects_nowhere() {
    let guest = Guest::unclaimed().await;
    let port = echo_server(Ipv4Addr::LOCALHOST).await;
    let result = guest.client.connect(port).await;
    assert_eq!(refusal(result), GuestErrorCode::Unclaimed);
}

#[tokio::test]
async fn relays_leave_room_for_calls_and_give_their_places_back() {
    let guest = Guest::claimed().await;
    let port = echo_server(Ipv4Addr::LOCALHOST).await;
    let mut held = Vec::new();
    let refused = loop {
        match guest.client.connect(port).await {
            Ok(stream) => held.push(stream),
            other => break refusal(other),
        }
    };
    assert_eq!(refused, GuestErrorCode::LimitReached);
    guest.client.ping().await.unwrap();
    drop(held);
    eventually("a free place", || async {
        guest.client.connect(port).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_goes_away_ends_the_relay() {
    let guest = Guest::claimed().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = guest.client.connect(port).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"bye").await.unwrap();
    drop(server);
    let mut wire = Wire(stream);
    let mut text = Vec::new();
    wire.0.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"bye");
}
