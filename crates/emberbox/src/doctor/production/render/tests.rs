use emberbox_host::EngineKind;
use expect_test::expect_file;

use super::super::check::Item;
use super::super::facts::sample;
use super::*;
use crate::doctor::facts::sample as machine;
use crate::doctor::report::Report;

#[test]
fn a_machine_that_is_fit() {
    let mut facts = machine::ready();
    facts.engine_wanted = EngineKind::Firecracker;
    facts.firecracker.usable = Some(true);
    facts.firecracker.version = Some("1.16.1".to_owned());
    let production = Production::new(Report::new(facts), sample::safe(), &[]);
    assert!(production.safe);
    expect_file!["tests/fit.txt"].assert_eq(&text(&production));
}

#[test]
fn a_machine_that_is_not() {
    let mut host = sample::safe();
    host.smt = Some(true);
    host.ksm = Some(true);
    host.data_dir.reflink = Some(false);
    let production = Production::new(Report::new(machine::ready()), host, &[Item::Smt]);
    assert!(!production.safe);
    expect_file!["tests/not_fit.txt"].assert_eq(&text(&production));
}
