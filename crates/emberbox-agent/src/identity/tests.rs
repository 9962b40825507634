use std::os::unix::fs::symlink;

use super::*;
use crate::testing::{Guest, identity, refusal};

fn etc(guest: &Guest, name: &str) -> String {
    fs::read_to_string(guest.root.path().join("etc").join(name)).unwrap()
}

#[tokio::test]
async fn a_claim_names_the_guest() {
    let guest = Guest::claimed().await;
    assert_eq!(etc(&guest, "hostname"), "sbx-1\n");
    assert_eq!(etc(&guest, "machine-id"), format!("{}\n", "ab".repeat(16)));
    assert_eq!(
        etc(&guest, "hosts"),
        "127.0.0.1 localhost sbx-1\n::1 localhost ip6-localhost\n"
    );
}

#[tokio::test]
async fn a_refused_claim_changes_nothing_and_may_be_made_again() {
    let guest = Guest::unclaimed().await;
    let long = "x".repeat(65);
    for hostname in ["", "two\nlines", "a b", "é", &long] {
        let claim = Identity {
            hostname: hostname.into(),
            ..identity()
        };
        assert_eq!(
            refusal(guest.client.claim(claim).await),
            GuestErrorCode::Protocol
        );
    }
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
        let claim = Identity {
            env: vec![(name.into(), value.into())],
            ..identity()
        };
        assert_eq!(
            refusal(guest.client.claim(claim).await),
            GuestErrorCode::Protocol
        );
    }
    assert!(!guest.root.path().join("etc/hostname").exists());
    guest.client.claim(identity()).await.unwrap();
}

#[test]
fn a_seed_keeps_no_identity() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for directory in ["etc", "root", "var/lib/systemd"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::write(at("etc/hostname"), "template").unwrap();
    fs::write(at("target"), "untouched").unwrap();
    symlink(at("target"), at("etc/machine-id")).unwrap();
    fs::write(at("var/lib/systemd/random-seed"), "same").unwrap();
    fs::write(at("root/.bash_history"), "secret").unwrap();
    let system = System::new(root.path(), Machine::Shared).unwrap();
    clear(&system).unwrap();
    for (file, content) in [
        ("etc/hostname", ""),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
        ),
        ("etc/machine-id", ""),
    ] {
        assert_eq!(fs::read_to_string(at(file)).unwrap(), content);
        assert!(fs::symlink_metadata(at(file)).unwrap().is_file());
    }
    assert_eq!(fs::read(at("target")).unwrap(), b"untouched");
    assert!(!at("var/lib/systemd/random-seed").exists());
    assert!(!at("root/.bash_history").exists());
}
