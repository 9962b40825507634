//! The outside world of the suite: a host of its own in a namespace, a service
//! on this host that no guest may reach, and a resolver.

#![expect(clippy::unwrap_used, reason = "a test without its world cannot go on")]

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::thread;

use emberbox_runtime::conformance::Outside;
use nix::sched::{CloneFlags, setns};

/// Two addresses of a range kept for documentation (RFC 5737), so that nothing
/// real can be meant: this host's end and the outside's.
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The namespace and the two ends of its cable.
const NAMESPACE: &str = "emberbox-test-outside";
const NEAR_LINK: &str = "outside-near";
const FAR_LINK: &str = "outside-far";

/// A name that only this resolver knows.
const NAME: &str = "outside.emberbox.test";

/// An outside world that ends with [`OutsideWorld::close`].
pub(crate) struct OutsideWorld {
    /// Where guests' queries are relayed to.
    pub resolver: SocketAddr,
    host_service: SocketAddr,
    outside_service: SocketAddr,
    silent_service: SocketAddr,
}

impl OutsideWorld {
    /// Builds it; what an earlier run left is removed first.
    pub(crate) fn open() -> Self {
        let _ = Command::new("ip").args(["link", "del", NEAR_LINK]).output();
        let _ = Command::new("ip")
            .args(["netns", "del", NAMESPACE])
            .output();
        ip(&format!("netns add {NAMESPACE}"));
        ip(&format!(
            "link add {NEAR_LINK} type veth peer name {FAR_LINK} netns {NAMESPACE}"
        ));
        ip(&format!("addr add {NEAR}/30 dev {NEAR_LINK}"));
        ip(&format!("link set {NEAR_LINK} up"));
        ip(&format!("-n {NAMESPACE} addr add {FAR}/30 dev {FAR_LINK}"));
        ip(&format!("-n {NAMESPACE} link set {FAR_LINK} up"));

        let listeners = thread::spawn(|| {
            let namespace = std::fs::File::open(format!("/run/netns/{NAMESPACE}")).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            [(); 2].map(|()| TcpListener::bind((FAR, 0)).unwrap())
        });
        let [greeting, silent] = listeners.join().unwrap();
        let host = TcpListener::bind((NEAR, 0)).unwrap();
        Self {
            resolver: answer_queries(),
            host_service: greet_everyone(host, Then::Close),
            outside_service: greet_everyone(greeting, Then::Close),
            silent_service: greet_everyone(silent, Then::Keep),
        }
    }

    /// What the suite needs to know.
    pub(crate) fn addresses(&self) -> Outside {
        Outside {
            host_service: self.host_service,
            outside_service: self.outside_service,
            silent_service: self.silent_service,
            outside_name: NAME.to_owned(),
        }
    }

    /// Takes it down.
    pub(crate) fn close(&self) {
        ip(&format!("link del {NEAR_LINK}"));
        ip(&format!("netns del {NAMESPACE}"));
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments} failed");
}

/// What a server does after its greeting.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Keep,
}

/// Serves until the test process ends.
fn greet_everyone(listener: TcpListener, then: Then) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            // A client that is gone already needs no greeting.
            let _ = stream.write_all(b"hello from outside\n");
            match then {
                Then::Close => {}
                Then::Keep => kept.push(stream),
            }
        }
    });
    address
}

/// A resolver that knows one name (wire format: RFC 1035, section 4).
fn answer_queries() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&answer(&query[..length]), from);
        }
    });
    address
}

fn answer(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    // The name ends with an empty label; type and class follow.
    let name = query[HEADER..].iter().position(|&byte| byte == 0).unwrap() + 1;
    let question = &query[HEADER..HEADER + name + 4];
    let wants_address = question[name..name + 2] == [0, 1];
    let mut reply = query[..2].to_vec();
    // A response, recursion available, no error; one question, maybe one answer.
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_address), 0, 0, 0, 0]);
    reply.extend(question);
    if wants_address {
        // The question's name, A, IN, one minute, four bytes.
        reply.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(FAR.octets());
    }
    reply
}
