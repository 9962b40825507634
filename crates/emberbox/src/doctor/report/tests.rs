use super::*;
use crate::doctor::facts::sample;

fn install_of(report: &Report) -> &str {
    report.install.as_deref().unwrap_or_default()
}

#[test]
fn a_machine_that_was_set_up_is_ok() {
    let report = Report::new(sample::ready());
    assert!(report.ok);
    assert_eq!(report.install, None);
    let engine = report.engine.unwrap();
    assert_eq!((engine.name, engine.accelerator), ("qemu", "tcg"));
}

#[test]
fn missing_programs_give_one_line_with_each_package_once() {
    let report = Report::new(sample::fresh());
    assert!(!report.ok);
    assert_eq!(
        install_of(&report),
        "apt-get install -y --no-install-recommends erofs-utils nftables qemu-system-x86"
    );
    assert_eq!(report.missing.len(), 4);
    assert_eq!(report.engine, None);
    assert_eq!(report.problems, []);
}

#[test]
fn the_accelerator_follows_wish_and_verdict() {
    use AcceleratorChoice::{Auto, Kvm, Tcg};
    let cases = [
        (Auto, Some(true), Some("kvm")),
        (Auto, Some(false), Some("tcg")),
        (Auto, None, Some("tcg")),
        (Kvm, Some(true), Some("kvm")),
        (Kvm, Some(false), None),
        (Kvm, None, None),
        (Tcg, Some(true), Some("tcg")),
        (Tcg, Some(false), Some("tcg")),
    ];
    for (wanted, usable, expected) in cases {
        let mut facts = sample::ready();
        facts.accelerator_wanted = wanted;
        facts.kvm.usable = usable;
        let report = Report::new(facts);
        let got = report.engine.map(|engine| engine.accelerator);
        assert_eq!(got, expected, "{wanted:?} with KVM usable: {usable:?}");
        assert_eq!(report.ok, expected.is_some());
    }
}

#[test]
fn firecracker_is_taken_where_its_own_probe_says_so() {
    use EngineKind::{Auto, Firecracker, Qemu};
    let cases = [
        (Auto, Some(true), Some("firecracker")),
        (Auto, Some(false), Some("qemu")),
        (Auto, None, Some("qemu")),
        (Qemu, Some(true), Some("qemu")),
        (Firecracker, Some(true), Some("firecracker")),
        (Firecracker, Some(false), None),
        (Firecracker, None, None),
    ];
    for (wanted, usable, expected) in cases {
        let mut facts = sample::ready();
        facts.engine_wanted = wanted;
        facts.firecracker.usable = usable;
        facts.firecracker.version = Some("1.16.1".to_owned());
        let report = Report::new(facts);
        let got = report.engine.as_ref().map(|engine| engine.name);
        assert_eq!(
            got, expected,
            "{wanted:?} with Firecracker usable: {usable:?}"
        );
        assert_eq!(report.ok, expected.is_some());
    }
}

#[test]
fn a_firecracker_without_its_jailer_is_a_problem() {
    let mut facts = sample::ready();
    facts.engine_wanted = EngineKind::Firecracker;
    facts.firecracker.usable = Some(true);
    facts.firecracker.version = Some("1.16.1".to_owned());
    facts.firecracker.jailer = JailerChoice::Off;
    let report = Report::new(facts);
    assert!(!report.ok);
    assert_eq!(report.problems[0].fix, "set engine.jailer to on");
}

#[test]
fn without_root_or_template_nothing_runs_and_the_mending_is_told() {
    let mut facts = sample::ready();
    facts.root = false;
    facts.templates.clear();
    let report = Report::new(facts);
    assert!(!report.ok);
    let fixes: Vec<_> = report
        .problems
        .iter()
        .map(|problem| problem.fix.as_str())
        .collect();
    assert_eq!(fixes, ["run emberbox as root", "emberbox setup"]);
}

#[test]
fn set_up_finds_what_it_reads_in_the_json() {
    let json = serde_json::to_value(Report::new(sample::fresh())).unwrap();
    assert_eq!(json["home"]["path"], "/var/lib/emberbox");
    assert_eq!(json["missing"][0]["program"], "qemu-system-x86_64");
    assert_eq!(json["missing"][0]["package"], "qemu-system-x86");
    assert_eq!(json["missing"][0]["why"], "runs the VMs");
    assert_eq!(json["ok"], false);
}

#[test]
fn firecracker_needs_no_qemu_beside_it() {
    let mut facts = sample::ready();
    facts.engine_wanted = EngineKind::Firecracker;
    facts.firecracker.usable = Some(true);
    facts.firecracker.version = Some("1.16.1".to_owned());
    facts.qemu = None;
    facts.programs[0].found = false;
    assert_eq!(facts.programs[0].program, "qemu-system-x86_64");
    assert!(Report::new(facts.clone()).ok);
    facts.firecracker.usable = Some(false);
    assert_eq!(Report::new(facts).missing.len(), 1);
}
