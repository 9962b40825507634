use std::fs;

use emberbox_guest::{GuestErrorCode, Rehearsal};

use crate::testing::{Guest, identity, refusal};

fn rehearsal() -> Rehearsal {
    Rehearsal {
        unix_time_ns: 1,
        entropy: [3; 32],
        mtu: 1500,
    }
}

#[tokio::test]
async fn a_rehearsal_leaves_no_name_and_the_guest_can_be_claimed() {
    let guest = Guest::unclaimed().await;
    guest.client.rehearse(rehearsal()).await.unwrap();
    let localhost = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";
    for (name, left) in [("hostname", ""), ("hosts", localhost), ("machine-id", "")] {
        let text = fs::read_to_string(guest.root.path().join("etc").join(name));
        assert_eq!(text.unwrap(), left, "{name}");
    }
    assert!(!guest.client.ping().await.unwrap().claimed);
    guest.client.claim(identity()).await.unwrap();
    let name = fs::read_to_string(guest.root.path().join("etc/hostname"));
    assert_eq!(name.unwrap(), "sbx-1\n");
}

#[tokio::test]
async fn a_claimed_guest_rehearses_nothing() {
    let guest = Guest::claimed().await;
    let refused = refusal(guest.client.rehearse(rehearsal()).await);
    // The call carries no token of the guest's.
    assert_eq!(refused, GuestErrorCode::Unauthorized);
    let name = fs::read_to_string(guest.root.path().join("etc/hostname"));
    assert_eq!(name.unwrap(), "sbx-1\n");
}
