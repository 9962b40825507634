use expect_test::expect_file;

use super::*;
use crate::doctor::facts::sample;

#[test]
fn a_machine_that_is_ready() {
    expect_file!["tests/ready.txt"].assert_eq(&text(&Report::new(sample::ready())));
}

#[test]
fn a_machine_where_nothing_is_installed() {
    expect_file!["tests/fresh.txt"].assert_eq(&text(&Report::new(sample::fresh())));
}

#[test]
fn a_machine_with_kvm_and_firecracker_where_somebody_forgot_root() {
    let mut facts = sample::ready();
    facts.root = false;
    facts.kvm.usable = Some(true);
    facts.kvm.reason = "a probe VM booted".to_owned();
    facts.firecracker.version = Some("1.16.1".to_owned());
    facts.firecracker.usable = Some(true);
    facts.firecracker.reason = "a probe VM booted".to_owned();
    facts.home.reflink = Some(true);
    facts.seeds.clear();
    expect_file!["tests/not_root.txt"].assert_eq(&text(&Report::new(facts)));
}
