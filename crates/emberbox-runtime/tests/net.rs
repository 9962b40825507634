//! Network slots on the real kernel: nothing is left behind, servers do not
//! disturb each other, and a hostile guest gets out only where it may.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use emberbox_runtime::net::{
    GATEWAY_ADDRESS, GATEWAY_MAC, GUEST_MAC, Instance, NetConfig, NetError, Slot, SlotIndex,
    SlotPool,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

#[path = "net/guest.rs"]
mod guest;

use guest::{Datagram, Guest};

/// Set in the child that is to be killed: the instance it works for.
const CHILD: &str = "EMBERBOX_TEST_NET_CHILD";

const DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked for what must come.
const POLL: Duration = Duration::from_millis(1);

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces need root");
    }
    root
}

fn new_instance() -> Instance {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Instance::from_bits(std::process::id().wrapping_mul(64).wrapping_add(next))
}

fn config(instance: Instance, pool_size: usize) -> NetConfig {
    NetConfig {
        pool_size,
        ..NetConfig::new(instance)
    }
}

fn ip(arguments: &[&str]) -> String {
    run("ip", arguments)
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Everything this machine holds of an instance, named.
fn traces(instance: Instance) -> Vec<String> {
    let mut found = Vec::new();
    let group = 0x6b00_0000 | u32::from_str_radix(&instance.to_string(), 16).unwrap();
    let links = ip(&["-o", "link", "show", "group", &group.to_string()]);
    found.extend(links.lines().map(|line| format!("link {line}")));
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with(&format!("emberbox-{instance}-")) {
            found.push(format!("namespace {name}"));
        }
    }
    for entry in std::fs::read_dir("/run/emberbox/slots")
        .into_iter()
        .flatten()
    {
        let path = entry.unwrap().path();
        if std::fs::read_link(&path)
            .is_ok_and(|owner| owner.as_os_str() == instance.to_string().as_str())
        {
            found.push(format!("record {}", path.display()));
        }
    }
    let tables = run("nft", &["list", "tables"]);
    let ours = tables
        .lines()
        .filter(|table| table.ends_with(&format!("emberbox_{instance}")));
    found.extend(ours.map(str::to_owned));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let ours = mounts
        .lines()
        .filter(|mount| mount.contains(&format!("/emberbox-{instance}-")));
    found.extend(ours.map(|mount| format!("mount {mount}")));
    found
}

/// Sweeps up behind a test that fails half way, so that it harms no other.
struct Sweep(Instance);

impl Drop for Sweep {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for trace in traces(self.0) {
            let last = trace.rsplit(['/', ' ']).next().unwrap_or_default();
            match trace.split_once(' ').map(|(kind, _name)| kind) {
                Some("namespace") => drop(ip(&["netns", "del", last])),
                Some("table") => drop(run("nft", &["delete", "table", "inet", last])),
                Some("record") => {
                    let _gone = std::fs::remove_file(&trace["record ".len()..]);
                }
                // Both end with the namespace.
                _link_or_mount => {}
            }
        }
    }
}

fn assert_no_traces(instance: Instance) {
    assert_eq!(traces(instance), Vec::<String>::new());
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(POLL);
    }
}

async fn wait_prepared(pool: &SlotPool, slots: usize) {
    let deadline = Instant::now() + DEADLINE;
    while pool.prepared() < slots {
        assert!(
            Instant::now() < deadline,
            "no {slots} slots within {DEADLINE:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_slot_is_handed_out_at_once_and_leaves_nothing() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let pool = SlotPool::open(config(instance, 2)).await.unwrap();
    wait_prepared(&pool, 2).await;

    let mut quickest = DEADLINE;
    let mut taken = Vec::new();
    for _ in 0..2 {
        let started = Instant::now();
        taken.push(pool.take().await.unwrap());
        quickest = quickest.min(started.elapsed());
    }
    eprintln!("took a prepared slot in {quickest:?}");
    // Ten times the promise: other work on the machine can push in between.
    assert!(quickest < Duration::from_millis(10), "{quickest:?}");
    let second = taken.pop().unwrap();
    let slot = taken.pop().unwrap();

    assert_eq!(slot.name(), format!("emberbox-{instance}-{}", slot.index()));
    assert_eq!(slot.uid(), config(instance, 0).uid_base + slot.index().0);
    let inside = ip(&["-n", slot.name(), "-o", "addr"]);
    assert!(inside.contains("tap0    inet 172.30.0.1/30"), "{inside}");
    assert!(!inside.contains("inet6"), "{inside}");
    let mtu = format!("mtu {} ", slot.mtu());
    for link in ["tap0", "uplink"] {
        let link = ip(&["-n", slot.name(), "-o", "link", "show", link]);
        assert!(link.contains(&mtu), "{link}");
    }
    let neighbours = ip(&["-n", slot.name(), "neigh"]);
    assert!(
        neighbours.contains("172.30.0.2 dev tap0 lladdr 02:eb:00:00:00:02 PERMANENT"),
        "{neighbours}"
    );

    pool.discard(&slot).await.unwrap();
    pool.discard(&second).await.unwrap();
    let ours = format!("-{}", slot.index());
    assert!(traces(instance).iter().all(|trace| !trace.ends_with(&ours)));
    pool.discard(&slot).await.unwrap();
    pool.close().await.unwrap();
    assert_no_traces(instance);
    assert!(matches!(pool.take().await, Err(NetError::Closed)));
    pool.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_get_a_slot_each() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let pool = SlotPool::open(config(instance, 3)).await.unwrap();
    let started = Instant::now();
    let takes = (0..20).map(|_| {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { pool.take().await.unwrap() })
    });
    let mut slots = Vec::new();
    for take in takes.collect::<Vec<_>>() {
        slots.push(take.await.unwrap());
    }
    eprintln!("twenty slots in {:?}", started.elapsed());
    let indexes: HashSet<SlotIndex> = slots.iter().map(|slot| slot.index()).collect();
    assert_eq!(indexes.len(), 20);
    for slot in &slots {
        pool.discard(slot).await.unwrap();
    }
    pool.close().await.unwrap();
    assert_no_traces(instance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_that_is_given_up_loses_no_slot() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let pool = SlotPool::open(config(instance, 0)).await.unwrap();
    let taking = Arc::clone(&pool);
    let take = tokio::spawn(async move { taking.take().await });
    let recorded = || {
        traces(instance)
            .iter()
            .any(|trace| trace.starts_with("record"))
    };
    tokio::task::block_in_place(|| wait_until("a slot is being made", recorded));
    take.abort();
    if let Ok(Ok(slot)) = take.await {
        // It was faster than the abort.
        pool.discard(&slot).await.unwrap();
    } else {
        wait_prepared(&pool, 1).await;
    }
    pool.close().await.unwrap();
    assert_no_traces(instance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_adopts_what_runs_and_reaps_the_rest() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let before = SlotPool::open(config(instance, 2)).await.unwrap();
    let running = before.take().await.unwrap().index();
    let lost = before.take().await.unwrap().index();
    wait_prepared(&before, 2).await;
    drop(before);

    let (resolver, upstream) = fake_resolver().await;
    let after = SlotPool::open(NetConfig {
        upstream_dns: Some(vec![upstream]),
        ..config(instance, 0)
    });
    let after = after.await.unwrap();
    let slot = after.adopt(running).await.unwrap();
    assert_eq!(slot.index(), running);
    assert_resolves(&slot).await;
    let reaped = after.reap_except(&HashSet::from([running])).await.unwrap();
    assert!(reaped >= 3, "{reaped} reaped");
    assert!(matches!(after.adopt(lost).await, Err(NetError::NotOurs(_))));

    after.close().await.unwrap();
    let left = traces(instance);
    assert!(
        left.iter().any(|trace| trace.starts_with("namespace")),
        "the running VM's slot stays"
    );
    assert!(
        left.iter().any(|trace| trace.starts_with("table")),
        "and its rules: {left:?}"
    );
    after.discard(&slot).await.unwrap();
    after.close().await.unwrap();
    assert_no_traces(instance);
    resolver.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "not a test of its own: the process that the next one kills"]
async fn child_that_makes_slots_until_it_is_killed() {
    let Ok(instance) = std::env::var(CHILD) else {
        return;
    };
    let pool = SlotPool::open(config(instance.parse().unwrap(), 64))
        .await
        .unwrap();
    let _taken = pool.take().await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_s_slots_are_all_found_half_made_ones_too() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    for records in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "child_that_makes_slots_until_it_is_killed",
            ])
            .env(CHILD, instance.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let count = |kind| {
            traces(instance)
                .iter()
                .filter(|trace| trace.starts_with(kind))
                .count()
        };
        tokio::task::block_in_place(|| wait_until("slots exist", || count("record") >= records));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(count("record") >= records);

        let pool = SlotPool::open(config(instance, 0)).await.unwrap();
        let reaped = pool.reap_except(&HashSet::new()).await.unwrap();
        assert!(reaped >= records, "{reaped} of at least {records}");
        pool.close().await.unwrap();
        assert_no_traces(instance);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_on_one_machine_do_not_disturb_each_other() {
    if !root() {
        return;
    }
    let (one, other) = (new_instance(), new_instance());
    let _sweep = (Sweep(one), Sweep(other));
    let first = SlotPool::open(config(one, 1)).await.unwrap();
    let second = SlotPool::open(config(other, 1)).await.unwrap();
    let kept = first.take().await.unwrap();
    let taken = second.take().await.unwrap();
    assert_ne!(kept.index(), taken.index());
    assert!(matches!(
        second.adopt(kept.index()).await,
        Err(NetError::NotOurs(_))
    ));
    second.reap_except(&HashSet::new()).await.unwrap();
    second.discard(&taken).await.unwrap();
    second.close().await.unwrap();
    assert_no_traces(other);

    ip(&["link", "show", &format!("eb{}", kept.index())]);
    run(
        "nft",
        &["list", "table", "inet", &format!("emberbox_{one}")],
    );
    first.discard(&kept).await.unwrap();
    first.close().await.unwrap();
    assert_no_traces(one);
}

/// A process of a user's own; ends when dropped.
struct Stranger(std::process::Child);

impl Stranger {
    fn of(uid: u32) -> Self {
        use std::os::unix::process::CommandExt;
        let child = Command::new("sleep").arg("1000").uid(uid).gid(uid).spawn();
        Self(child.unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_slot_is_made_whose_user_is_somebody_else_s() {
    /// More than other servers of this machine take meanwhile.
    const SLOTS: u32 = 100;
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    // A range that no other server uses.
    let config = NetConfig {
        uid_base: 0x6dc0_0000,
        ..config(instance, 0)
    };
    let uid_base = config.uid_base;
    let pool = SlotPool::open(config).await.unwrap();
    let slot = pool.take().await.unwrap();
    let strangers: HashMap<_, _> = (uid_base..uid_base + SLOTS)
        .filter(|&uid| uid != slot.uid())
        .map(|uid| (uid, Stranger::of(uid)))
        .collect();
    let taken = pool.take().await;
    let Err(NetError::UserInUse { uid, pid }) = taken else {
        panic!(
            "a slot of a user that is in use: {:?}",
            taken.map(|slot| slot.index())
        );
    };
    assert_eq!(pid.cast_unsigned(), strangers[&uid].0.id());
    drop(strangers);
    let another = pool.take().await.unwrap();
    for slot in [slot, another] {
        pool.discard(&slot).await.unwrap();
    }
    pool.close().await.unwrap();
    assert_no_traces(instance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_reached_without_asking_for_its_address() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let pool = SlotPool::open(config(instance, 0)).await.unwrap();
    let started = Instant::now();
    let slot = pool.take().await.unwrap();
    eprintln!("made a slot in {:?}", started.elapsed());
    let guest = Guest::new(&slot);
    let dialling = Arc::clone(&slot);
    let dial = tokio::spawn(async move { dialling.connect(871).await });
    let syn = guest.receive(|packet| packet.protocol == 6).await;
    assert_eq!((syn.from_mac, syn.to_mac), (GATEWAY_MAC, GUEST_MAC));
    assert_eq!(syn.source, GATEWAY_ADDRESS);
    assert_eq!(syn.body[2..4], 871_u16.to_be_bytes());
    dial.abort();
    drop(guest);
    let started = Instant::now();
    pool.discard(&slot).await.unwrap();
    eprintln!("removed it in {:?}", started.elapsed());
    pool.close().await.unwrap();
    assert_no_traces(instance);
}

/// A DNS query for the root's name servers, and the answer of
/// [`fake_resolver`]: the same with the response bit.
const QUERY: [u8; 17] = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
const RESPONSE_BIT: u8 = 0x80;

/// A resolver on loopback, UDP and TCP, that answers every query with itself.
async fn fake_resolver() -> (tokio::task::JoinHandle<()>, SocketAddr) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let task = tokio::spawn(async move {
        let mut datagram = [0; 512];
        loop {
            tokio::select! {
                received = udp.recv_from(&mut datagram) => {
                    let (length, from) = received.unwrap();
                    datagram[2] |= RESPONSE_BIT;
                    udp.send_to(&datagram[..length], from).await.unwrap();
                }
                accepted = tcp.accept() => {
                    let (mut stream, _from) = accepted.unwrap();
                    let length = stream.read_u16().await.unwrap();
                    let mut message = vec![0; length.into()];
                    stream.read_exact(&mut message).await.unwrap();
                    message[2] |= RESPONSE_BIT;
                    stream.write_u16(length).await.unwrap();
                    stream.write_all(&message).await.unwrap();
                }
            }
        }
    });
    (task, address)
}

/// Asks the relay as the guest does, over UDP.
async fn ask(slot: &Slot) -> Vec<u8> {
    let guest = Guest::new(slot);
    guest.send_to((GATEWAY_ADDRESS, 53), &QUERY).await;
    let answer = guest.receive(|packet| packet.source == GATEWAY_ADDRESS && packet.protocol == 17);
    const UDP_HEADER: usize = 8;
    answer.await.body[UDP_HEADER..].to_vec()
}

async fn assert_resolves(slot: &Slot) {
    let mut expected = QUERY;
    expected[2] |= RESPONSE_BIT;
    assert_eq!(ask(slot).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dns_fails_over_and_fails_fast() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let (resolver, alive) = fake_resolver().await;
    // A port that was free a moment ago: refused at once.
    let dead = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let pool = SlotPool::open(NetConfig {
        upstream_dns: Some(vec![dead, alive]),
        ..config(instance, 0)
    });
    let pool = pool.await.unwrap();
    let slot = pool.take().await.unwrap();
    assert_resolves(&slot).await;
    resolver.abort();
    let _aborted = resolver.await;
    const SERVFAIL: u8 = 2;
    assert_eq!(ask(&slot).await[3] & 0x0f, SERVFAIL);
    pool.discard(&slot).await.unwrap();
    pool.close().await.unwrap();
    assert_no_traces(instance);
}

/// A stand-in for everything beyond the host: a namespace at the other end of
/// a link, with addresses of every kind. Removed when dropped.
///
/// The addresses depend on the process, so that two runs of these tests on one
/// machine do not meet.
struct Outside {
    name: String,
    link: String,
    host: Ipv4Addr,
    public: Ipv4Addr,
    private: Ipv4Addr,
    allowed: Ipv4Addr,
    metadata: Ipv4Addr,
    shared: Ipv4Addr,
}

impl Outside {
    fn new(instance: Instance) -> Self {
        let [_, _, _, byte] = std::process::id().to_be_bytes();
        let pair = byte & !3;
        let outside = Self {
            name: format!("outside-{instance}"),
            link: format!("out{instance}"),
            host: Ipv4Addr::new(203, 0, 113, pair + 1),
            public: Ipv4Addr::new(203, 0, 113, pair + 2),
            private: Ipv4Addr::new(10, 203, byte, 1),
            allowed: Ipv4Addr::new(10, 204, byte, 1),
            metadata: Ipv4Addr::new(169, 254, 171, byte),
            shared: Ipv4Addr::new(100, 127, byte, 1),
        };
        let name = outside.name.as_str();
        let link = outside.link.as_str();
        let near = format!("{}/30", outside.host);
        let far = format!("{}/30", outside.public);
        ip(&["netns", "add", name]);
        ip(&[
            "link", "add", link, "type", "veth", "peer", "name", "in", "netns", name,
        ]);
        ip(&["addr", "add", &near, "dev", link]);
        ip(&["link", "set", link, "up"]);
        ip(&["-n", name, "addr", "add", &far, "dev", "in"]);
        ip(&["-n", name, "link", "set", "in", "up"]);
        let gateway = outside.public.to_string();
        for address in [
            outside.private,
            outside.allowed,
            outside.metadata,
            outside.shared,
        ] {
            let address = format!("{address}/32");
            ip(&["-n", name, "addr", "add", &address, "dev", "in"]);
            ip(&["route", "add", &address, "via", &gateway]);
        }
        outside
    }

    /// A socket out there on every address.
    fn listen(&self) -> UdpSocket {
        let netns = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let bind = move || {
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let socket = std::thread::spawn(bind).join().unwrap();
        UdpSocket::from_std(socket).unwrap()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        ip(&["link", "del", &self.link]);
        ip(&["netns", "del", &self.name]);
    }
}

/// What arrives at `socket` up to and including `last`.
async fn received_until(socket: &UdpSocket, last: &[u8]) -> Vec<(String, SocketAddr)> {
    let mut all = Vec::new();
    let collect = async {
        loop {
            let mut datagram = [0; 512];
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            all.push((
                String::from_utf8_lossy(&datagram[..length]).into_owned(),
                from,
            ));
            if &datagram[..length] == last {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, collect)
        .await
        .expect("the last datagram arrives");
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_gets_out_and_nowhere_else() {
    if !root() {
        return;
    }
    let instance = new_instance();
    let _sweep = Sweep(instance);
    let outside = Outside::new(instance);
    let pool = SlotPool::open(NetConfig {
        allowed_private: vec!["10.204.0.0/16".parse().unwrap()],
        ..config(instance, 0)
    });
    let pool = pool.await.unwrap();
    let slot = pool.take().await.unwrap();
    let other = pool.take().await.unwrap();
    let guest = Guest::new(&slot);

    let listener = outside.listen();
    let port = listener.local_addr().unwrap().port();
    for refused in [outside.private, outside.metadata, outside.shared] {
        guest.send_to((refused, port), b"refused").await;
        const ADMINISTRATIVELY_PROHIBITED: [u8; 2] = [3, 13];
        guest
            .receive(|packet| {
                packet.protocol == 1 && packet.body[..2] == ADMINISTRATIVELY_PROHIBITED
            })
            .await;
    }
    let forged = Datagram {
        source: Ipv4Addr::new(172, 30, 0, 3),
        to: (outside.public, port),
        payload: b"forged",
    };
    guest.send(forged).await;
    guest.send_to((outside.allowed, port), b"allowed").await;
    guest.send_to((outside.public, port), b"last").await;
    // One path, first in first out: what comes before the last came through.
    let received = received_until(&listener, b"last").await;
    let (texts, senders): (Vec<_>, Vec<_>) = received.into_iter().unzip();
    assert_eq!(texts, ["allowed", "last"]);
    assert!(
        senders.iter().all(|sender| sender.ip() == outside.host),
        "{senders:?}"
    );

    // And the answer comes back.
    listener.send_to(b"answer", senders[1]).await.unwrap();
    let answer = guest
        .receive(|packet| packet.source == outside.public)
        .await;
    assert_eq!(&answer.body[8..], b"answer");

    // The host, by any of its addresses, and the other slot.
    let service = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let transit =
        |slot: &Slot, end: u8| Ipv4Addr::from(0x6440_0000 + 2 * slot.index().0 + u32::from(end));
    let mut forbidden = vec![outside.host, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST];
    for slot in [&slot, &other] {
        forbidden.extend([transit(slot, 0), transit(slot, 1)]);
    }
    let own = nix::ifaddrs::getifaddrs().unwrap();
    let own = own.filter_map(|link| link.address?.as_sockaddr_in().map(|address| address.ip()));
    forbidden.extend(own);
    for address in forbidden {
        guest.send_to((address, port), b"to the host").await;
    }
    let far = outside.listen();
    guest
        .send_to((outside.public, far.local_addr().unwrap().port()), b"last")
        .await;
    received_until(&far, b"last").await;
    let nothing = service
        .try_recv(&mut [0; 16])
        .expect_err("nothing reaches the host");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);

    drop(guest);
    pool.discard(&slot).await.unwrap();
    pool.discard(&other).await.unwrap();
    pool.close().await.unwrap();
    assert_no_traces(instance);
}
