//! A guest made of nothing but frames: it sits at a slot's TAP like a VMM.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use emberbox_runtime::net::{GATEWAY_MAC, GUEST_ADDRESS, GUEST_MAC, Slot};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The header the TAP puts before every frame (virtio_net_hdr).
const VNET_HEADER: usize = 10;
/// How long anything a guest waits for may take.
const WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(1);

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: u8 = 17;

pub(crate) struct Guest {
    tap: AsyncFd<File>,
}

/// An IPv4 packet that arrived at the guest.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) source: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) from_mac: [u8; 6],
    pub(crate) to_mac: [u8; 6],
    /// What follows the IP header.
    pub(crate) body: Vec<u8>,
}

/// A datagram for the guest to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'a> {
    pub(crate) source: Ipv4Addr,
    pub(crate) to: (Ipv4Addr, u16),
    pub(crate) payload: &'a [u8],
}

impl Guest {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that may close their descriptor; File does not"
    )]
    pub(crate) fn new(slot: &Slot) -> Self {
        let tap = File::from(open_tap(slot));
        let interest = Interest::READABLE | Interest::WRITABLE;
        let tap = AsyncFd::with_interest(tap, interest).expect("a TAP can be polled");
        wait_for_queue(slot.name());
        Self { tap }
    }

    pub(crate) async fn send_to(&self, to: (Ipv4Addr, u16), payload: &[u8]) {
        let source = GUEST_ADDRESS;
        self.send(Datagram {
            source,
            to,
            payload,
        })
        .await;
    }

    pub(crate) async fn send(&self, datagram: Datagram<'_>) {
        let mut frame = vec![0; VNET_HEADER];
        frame.extend(GATEWAY_MAC);
        frame.extend(GUEST_MAC);
        frame.extend([0x08, 0x00]);
        frame.extend(ip_packet(&datagram));
        let write = |mut tap: &File| tap.write(&frame);
        let written = self.tap.async_io(Interest::WRITABLE, write).await;
        assert_eq!(written.expect("the TAP takes a frame"), frame.len());
    }

    /// The next IPv4 packet for which `wanted` holds.
    pub(crate) async fn receive(&self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        let search = async {
            loop {
                let packet = self.next().await.expect("the TAP gives a frame");
                if let Some(packet) = packet.filter(&wanted) {
                    return packet;
                }
            }
        };
        tokio::time::timeout(WITHIN, search)
            .await
            .expect("the packet arrives")
    }

    async fn next(&self) -> io::Result<Option<Packet>> {
        let mut buffer = [0; 4096];
        let read = |mut tap: &File| tap.read(&mut buffer);
        let length = self.tap.async_io(Interest::READABLE, read).await?;
        Ok(parse(&buffer[VNET_HEADER..length]))
    }
}

/// A TAP has one owner. A process that another test is starting has the
/// descriptors of this one until it is its own, those of a guest that was
/// dropped included.
fn open_tap(slot: &Slot) -> OwnedFd {
    let deadline = Instant::now() + WITHIN;
    loop {
        match slot.open_tap() {
            Ok(tap) => return tap,
            Err(error) => assert!(Instant::now() < deadline, "the TAP opens: {error:?}"),
        }
        std::thread::sleep(POLL);
    }
}

/// A TAP drops what it is to deliver until the kernel has noticed, a moment
/// after the open, that somebody is there.
fn wait_for_queue(namespace: &str) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let show = ["-n", namespace, "-o", "link", "show", "tap0"];
        let link = Command::new("ip").args(show).output().expect("ip runs");
        if !String::from_utf8_lossy(&link.stdout).contains("qdisc noop") {
            return;
        }
        assert!(Instant::now() < deadline, "the TAP has no queue: {link:?}");
    }
}

fn parse(frame: &[u8]) -> Option<Packet> {
    if frame.get(12..ETHERNET)? != [0x08, 0x00] {
        return None;
    }
    let packet = &frame[ETHERNET..];
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    Some(Packet {
        source: source.into(),
        protocol: packet[9],
        from_mac: frame[6..12].try_into().ok()?,
        to_mac: frame[..6].try_into().ok()?,
        body: packet.get(IP..)?.to_vec(),
    })
}

fn ip_packet(datagram: &Datagram<'_>) -> Vec<u8> {
    const GUEST_PORT: u16 = 4000;
    let (address, port) = datagram.to;
    let udp_length = u16::try_from(8 + datagram.payload.len()).expect("a short payload");
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_length).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet.extend(datagram.source.octets());
    packet.extend(address.octets());
    let checksum = internet_checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(GUEST_PORT.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    // UDP over IPv4 may go without a checksum (RFC 768).
    packet.extend([0, 0]);
    packet.extend(datagram.payload);
    packet
}

fn internet_checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}
