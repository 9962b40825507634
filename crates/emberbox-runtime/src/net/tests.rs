use super::*;

#[test]
fn an_instance_is_six_lower_case_hex_digits() {
    let instance: Instance = "00eb1a".parse().unwrap();
    assert_eq!(instance.to_string(), "00eb1a");
    assert_eq!(instance, Instance::from_bits(0x1200_eb1a));
    for bad in [
        "", "00eb1", "00eb1a0", "00EB1A", "+0eb1a", "00eb1g", "../../",
    ] {
        assert_eq!(bad.parse::<Instance>(), Err(InvalidInstance), "{bad:?}");
    }
}

#[test]
fn instances_have_groups_of_their_own() {
    assert_eq!(Instance::from_bits(0).link_group(), 0x6b00_0000);
    assert_eq!(Instance::from_bits(u32::MAX).link_group(), 0x6bff_ffff);
}

#[test]
fn every_slot_has_addresses_and_a_legal_link_name_of_its_own() {
    let first = SlotIndex(0).transit();
    assert_eq!(
        first,
        (Ipv4Addr::new(100, 64, 0, 0), Ipv4Addr::new(100, 64, 0, 1))
    );
    let last = SlotIndex(MAX_SLOTS - 1);
    assert_eq!(
        last.transit(),
        (
            Ipv4Addr::new(100, 65, 255, 254),
            Ipv4Addr::new(100, 65, 255, 255)
        )
    );
    assert!(rules::TRANSIT.contains(&last.transit().1));
    assert!(last.host_link().len() < nix::libc::IFNAMSIZ);
}

#[test]
fn the_guest_and_its_gateway_share_the_prefix() {
    let net = Ipv4Net::new(GATEWAY_ADDRESS, PREFIX_LEN).unwrap();
    assert!(net.contains(&GUEST_ADDRESS));
    assert_ne!(net.broadcast(), GUEST_ADDRESS);
}

#[test]
fn user_ids_stay_below_the_signed_range() {
    const { assert!(DEFAULT_UID_BASE + MAX_SLOTS < 1 << 31) };
}
