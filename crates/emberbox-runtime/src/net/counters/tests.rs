use super::{NetworkUse, parse};

#[test]
fn the_kernels_table_is_read_from_both_ends() {
    let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  tap0:    1001      10    0    0    0     0          0         0     2002      20    0    0    0     0       0          0
uplink:3003 30 0 0 0 0 0 0 4004 40 0 0 0 0 0 0
";
    let expected = NetworkUse {
        egress_bytes: 4004,
        ingress_bytes: 3003,
        guest_sent_bytes: 1001,
        guest_received_bytes: 2002,
    };
    assert_eq!(parse(table), Some(expected));
    assert_eq!(parse("lo: 0 0 0 0 0 0 0 0 0"), None);
    assert_eq!(parse("tap0: 1\nuplink: 1"), None);
}
