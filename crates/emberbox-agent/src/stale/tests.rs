use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;

#[test]
fn what_stays_inside_is_not_outside() {
    for (local, peer, outside) in [
        ("172.30.0.2", "203.0.113.7", true),
        ("172.30.0.2", "172.30.0.1", true),
        ("127.0.0.1", "127.0.0.1", false),
        ("127.0.0.1", "127.8.0.1", false),
        ("172.30.0.2", "172.30.0.2", false),
        ("::1", "::1", false),
        ("::ffff:172.30.0.2", "::ffff:203.0.113.7", true),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", false),
        ("::ffff:172.30.0.2", "172.30.0.2", false),
    ] {
        let (local, peer) = (local.parse().unwrap(), peer.parse().unwrap());
        assert_eq!(leads_outside(local, peer), outside, "{local} to {peer}");
    }
}

#[test]
fn a_connection_of_a_process_is_found_and_broken_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let process = sys::open_process(std::process::id().cast_signed()).unwrap();
    let duplicate = sys::descriptor_of(&process, client.as_raw_fd()).unwrap();
    let found = connection(&duplicate).unwrap();
    let ends = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    assert_eq!(found, ends);
    break_off(&duplicate);
    let reset = io::ErrorKind::ConnectionReset;
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), reset);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), reset);
    assert_eq!(connection(&duplicate), None);
}

#[test]
fn only_tcp_connections_count() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(connection(&listener.into()), None);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.connect("127.0.0.1:9").unwrap();
    assert_eq!(connection(&datagrams.into()), None);
    let (unix, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(connection(&unix.into()), None);
}
