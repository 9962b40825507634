//! What may pass: one nftables table inside every slot, and one per instance
//! on the host that trusts no slot.
//!
//! Inside, the guest's packets are judged by their destination and its
//! connections counted. On the host, everything that comes out of a slot is
//! judged again, before any port forwarding of somebody else's can change its
//! destination; nothing from a slot is ever delivered to the host itself.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{GATEWAY_ADDRESS, GUEST_ADDRESS, Instance, NetError, link, tap};

/// The addresses of all veth pairs of this machine.
pub(super) const TRANSIT: Ipv4Net = net(100, 64, 0, 0, 15);

/// No guest reaches these, whatever is allowed.
const NEVER: [Ipv4Net; 10] = [
    // "This network" and loopback.
    net(0, 0, 0, 0, 8),
    net(127, 0, 0, 0, 8),
    // Other slots.
    TRANSIT,
    net(172, 30, 0, 0, 30),
    // Link-local: the metadata services of nearly every cloud.
    net(169, 254, 0, 0, 16),
    // Metadata of Alibaba, of Oracle, and Azure's host agent.
    net(100, 100, 100, 200, 32),
    net(192, 0, 0, 0, 24),
    net(168, 63, 129, 16, 32),
    // Multicast, and what was never assigned, broadcast included.
    net(224, 0, 0, 0, 4),
    net(240, 0, 0, 0, 4),
];

/// No guest reaches these unless allowed: the private ranges.
const PRIVATE: [Ipv4Net; 4] = [
    net(10, 0, 0, 0, 8),
    net(172, 16, 0, 0, 12),
    net(192, 168, 0, 0, 16),
    net(100, 64, 0, 0, 10),
];

/// Connections one guest may have open at a time. All guests share the host's
/// connection table (262 144 entries on a small machine): a hostile one must
/// not fill it, and no build or crawler needs more.
const CONNECTIONS_PER_SLOT: u32 = 4096;

/// The table inside a slot; its namespace is its own.
const INSIDE: &str = "emberbox";

const fn net(a: u8, b: u8, c: u8, d: u8, prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

/// Loads the rules of a slot. Blocks; the calling thread is in its namespace.
pub(super) fn load_inside(allowed: &[Ipv4Net]) -> Result<(), NetError> {
    inside(allowed).load()
}

/// Loads the host's rules for all slots of `instance`. Blocks.
pub(super) fn load_host(instance: Instance, allowed: &[Ipv4Net]) -> Result<(), NetError> {
    host(instance, allowed).load()
}

/// Removes the host's rules. Blocks. Idempotent.
pub(super) fn remove_host(instance: Instance) -> Result<(), NetError> {
    Ruleset::without(host_table(instance)).load()
}

fn host_table(instance: Instance) -> String {
    format!("emberbox_{instance}")
}

fn inside(allowed: &[Ipv4Net]) -> Ruleset {
    let mut rules = Ruleset::new(INSIDE.to_owned());
    let from_guest = || equal(meta("iifname"), json!(tap::NAME));
    let to_guest = || equal(meta("oifname"), json!(tap::NAME));
    let to_outside = || equal(meta("oifname"), json!(link::UPLINK));
    let to_gateway = || equal(field("ip", "daddr"), json!(GATEWAY_ADDRESS));

    rules.base("prerouting", "filter", Hook::Prerouting, RAW, "accept");
    let other_family = differs(meta("nfproto"), json!("ipv4"));
    rules.rule("prerouting", [other_family, drop()]);
    let other_source = differs(field("ip", "saddr"), json!(GUEST_ADDRESS));
    rules.rule("prerouting", [from_guest(), other_source, drop()]);

    rules.base("input", "filter", Hook::Input, FILTER, "drop");
    rules.rule("input", [established(), accept()]);
    for protocol in ["udp", "tcp"] {
        let dns = equal(field(protocol, "dport"), json!(53));
        rules.rule("input", [from_guest(), to_gateway(), dns, accept()]);
    }
    let echo = equal(field("icmp", "type"), json!("echo-request"));
    rules.rule("input", [from_guest(), to_gateway(), echo, accept()]);

    rules.chain("destination");
    judge_destination(
        &mut rules,
        allowed,
        &json!({"reject": {"type": "icmpx", "expr": "admin-prohibited"}}),
    );

    rules.base("forward", "filter", Hook::Forward, FILTER, "drop");
    let syn = json!({"match": {"op": "in", "left": field("tcp", "flags"), "right": "syn"}});
    let clamp = json!({"mangle": {
        "key": {"tcp option": {"name": "maxseg", "field": "size"}},
        "value": {"rt": {"key": "mtu"}},
    }});
    rules.rule("forward", [syn, clamp]);
    rules.rule("forward", [from_guest(), to_outside(), jump("destination")]);
    rules.rule("forward", [established(), accept()]);
    let too_many = json!({"ct count": {"val": CONNECTIONS_PER_SLOT, "inv": true}});
    rules.rule(
        "forward",
        [from_guest(), to_outside(), is_new(), too_many, drop()],
    );
    rules.rule("forward", [from_guest(), to_outside(), is_new(), accept()]);
    // Anything towards the guest that it did not ask for falls to the policy.
    rules.rule("forward", [to_guest(), drop()]);

    rules.base(
        "postrouting",
        "nat",
        Hook::Postrouting,
        SOURCE_NAT,
        "accept",
    );
    rules.rule("postrouting", [to_outside(), masquerade()]);
    rules
}

fn host(instance: Instance, allowed: &[Ipv4Net]) -> Ruleset {
    let mut rules = Ruleset::new(host_table(instance));
    let from_slot = || equal(meta("iifgroup"), json!(instance.link_group()));
    let to_slot = || equal(meta("oifgroup"), json!(instance.link_group()));

    rules.chain("destination");
    judge_destination(&mut rules, allowed, &drop());

    // Before destination NAT, so that a published port of the host's is as
    // closed as the host itself.
    rules.base("prerouting", "filter", Hook::Prerouting, RAW, "accept");
    let other_family = differs(meta("nfproto"), json!("ipv4"));
    rules.rule("prerouting", [from_slot(), other_family, drop()]);
    let no_way_back = equal(fib("oif", &["saddr", "iif"]), json!(false));
    rules.rule("prerouting", [from_slot(), no_way_back, drop()]);
    let delivered = json!({"set": ["local", "broadcast", "anycast", "multicast"]});
    let to_host = equal(fib("type", &["daddr"]), delivered);
    rules.rule("prerouting", [from_slot(), to_host, drop()]);
    rules.rule("prerouting", [from_slot(), jump("destination")]);

    rules.base("input", "filter", Hook::Input, FILTER, "accept");
    rules.rule("input", [from_slot(), drop()]);

    // And after it, should it have led into a private range.
    rules.base("forward", "filter", Hook::Forward, FILTER, "accept");
    let family = json!({"&": [meta("oifgroup"), u32::MAX << Instance::BITS]});
    let to_any_slot = equal(family, json!(Instance::ANY_LINK_GROUP));
    rules.rule("forward", [from_slot(), to_any_slot, drop()]);
    rules.rule("forward", [from_slot(), jump("destination")]);
    rules.rule("forward", [to_slot(), established(), accept()]);
    rules.rule("forward", [to_slot(), drop()]);

    rules.base(
        "postrouting",
        "nat",
        Hook::Postrouting,
        SOURCE_NAT,
        "accept",
    );
    rules.rule("postrouting", [from_slot(), masquerade()]);
    rules
}

/// Fills the chain `destination`: `refuse` what is out of bounds.
fn judge_destination(rules: &mut Ruleset, allowed: &[Ipv4Net], refuse: &Value) {
    let to = |nets: &[Ipv4Net]| {
        let prefixes = nets.iter().map(prefix).collect::<Vec<_>>();
        equal(field("ip", "daddr"), json!({"set": prefixes}))
    };
    rules.rule("destination", [to(&NEVER), refuse.clone()]);
    // One rule each: the ranges of a set must not overlap, these may.
    for net in allowed {
        let to_allowed = equal(field("ip", "daddr"), prefix(net));
        rules.rule("destination", [to_allowed, json!({"return": null})]);
    }
    rules.rule("destination", [to(&PRIVATE), refuse.clone()]);
}

fn prefix(net: &Ipv4Net) -> Value {
    json!({"prefix": {"addr": net.network(), "len": net.prefix_len()}})
}

fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

fn fib(result: &str, flags: &[&str]) -> Value {
    json!({"fib": {"result": result, "flags": flags}})
}

fn equal(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

fn differs(left: Value, right: Value) -> Value {
    json!({"match": {"op": "!=", "left": left, "right": right}})
}

fn in_state(states: Value) -> Value {
    json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": states}})
}

fn established() -> Value {
    in_state(json!(["established", "related"]))
}

fn is_new() -> Value {
    in_state(json!("new"))
}

fn accept() -> Value {
    json!({"accept": null})
}

fn drop() -> Value {
    json!({"drop": null})
}

fn jump(chain: &str) -> Value {
    json!({"jump": {"target": chain}})
}

fn masquerade() -> Value {
    json!({"masquerade": null})
}

#[derive(Clone, Copy)]
enum Hook {
    Prerouting,
    Input,
    Forward,
    Postrouting,
}

impl Hook {
    fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Postrouting => "postrouting",
        }
    }
}

/// The priorities `raw`, `filter` and `srcnat` of nft(8).
const RAW: i32 = -300;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// One table that replaces whatever stood under its name, in one transaction.
struct Ruleset {
    table: String,
    commands: Vec<Value>,
}

impl Ruleset {
    fn new(table: String) -> Self {
        let mut rules = Self::without(table);
        let add = rules.table_command("add");
        rules.commands.push(add);
        rules
    }

    /// Adding before deleting makes deleting succeed in any case.
    fn without(table: String) -> Self {
        let mut rules = Self {
            table,
            commands: Vec::new(),
        };
        rules.commands = ["add", "delete"]
            .map(|verb| rules.table_command(verb))
            .into();
        rules
    }

    fn table_command(&self, verb: &str) -> Value {
        json!({verb: {"table": {"family": "inet", "name": self.table}}})
    }

    fn chain(&mut self, name: &str) {
        self.commands.push(json!({"add": {"chain": {
            "family": "inet", "table": self.table, "name": name,
        }}}));
    }

    fn base(&mut self, name: &str, kind: &str, hook: Hook, priority: i32, policy: &str) {
        self.commands.push(json!({"add": {"chain": {
            "family": "inet", "table": self.table, "name": name,
            "type": kind, "hook": hook.name(), "prio": priority, "policy": policy,
        }}}));
    }

    fn rule(&mut self, chain: &str, expressions: impl Into<Vec<Value>>) {
        let expressions: Vec<Value> = expressions.into();
        self.commands.push(json!({"add": {"rule": {
            "family": "inet", "table": self.table, "chain": chain, "expr": expressions,
        }}}));
    }

    fn load(self) -> Result<(), NetError> {
        let document = json!({"nftables": self.commands}).to_string();
        let doing = || format!("run nft for table {}", self.table);
        let mut nft = Command::new("nft")
            .args(["-j", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(NetError::io(doing()))?;
        let mut stdin = nft.stdin.take().expect("stdin was piped");
        let written = stdin.write_all(document.as_bytes());
        std::mem::drop(stdin);
        let output = nft.wait_with_output().map_err(NetError::io(doing()))?;
        if !output.status.success() {
            let said = [output.stderr, output.stdout].concat();
            return Err(NetError::Rules {
                table: self.table,
                detail: String::from_utf8_lossy(&said).trim().to_owned(),
            });
        }
        written.map_err(NetError::io(doing()))
    }
}
