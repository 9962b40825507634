use super::*;

const GOOD: &str = "quiet console=ttyS0 emberbox.layers=2 emberbox.gateway=172.30.0.1 \
    emberbox.address=172.30.0.2/30 emberbox.gateway_mac=02:eb:00:00:00:01\n";

#[test]
fn a_full_line_is_a_plan() {
    let plan = Plan {
        layers: 2,
        address: Ipv4Addr::new(172, 30, 0, 2),
        prefix: 30,
        gateway: Ipv4Addr::new(172, 30, 0, 1),
        gateway_mac: [2, 0xeb, 0, 0, 0, 1],
    };
    assert_eq!(Boot::parse(GOOD), Ok(Boot::Run(plan)));
}

#[test]
fn a_probe_needs_nothing_else() {
    assert_eq!(Boot::parse("panic=-1 emberbox.probe"), Ok(Boot::Probe));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for name in [
        "emberbox.layers",
        "emberbox.gateway",
        "emberbox.address",
        "emberbox.gateway_mac",
    ] {
        let without = GOOD.replacen(&format!("{name}="), "other=", 1);
        assert_eq!(Boot::parse(&without), Err(CmdlineError::Missing(name)));
    }
    for (name, good, bad) in [
        ("emberbox.layers", "=2 ", "=0 "),
        ("emberbox.layers", "=2 ", "=26 "),
        ("emberbox.layers", "=2 ", "=x "),
        ("emberbox.address", "/30", "/33"),
        ("emberbox.address", "/30", ""),
        ("emberbox.gateway", "172.30.0.1", "172.30.0"),
        (
            "emberbox.gateway_mac",
            "02:eb:00:00:00:01",
            "02:eb:00:00:01",
        ),
        ("emberbox.gateway_mac", "00:01", "00:01:02"),
        ("emberbox.gateway_mac", "02:eb", "02:+e"),
    ] {
        let text = GOOD.replacen(good, bad, 1);
        match Boot::parse(&text) {
            Err(CmdlineError::Invalid { name: named, .. }) => assert_eq!(named, name, "{text}"),
            other => panic!("{text} gave {other:?}"),
        }
    }
}
