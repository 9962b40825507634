use super::super::facts::{Mode, SwapArea, Vulnerability, sample};
use super::*;
use crate::doctor::facts::sample as machine;
use emberbox_host::EngineKind;

fn doctor(firecracker: bool) -> Report {
    let mut facts = machine::ready();
    facts.kvm.usable = Some(true);
    if firecracker {
        facts.engine_wanted = EngineKind::Firecracker;
    }
    facts.firecracker.usable = Some(firecracker);
    facts.firecracker.version = firecracker.then(|| "1.16.1".to_owned());
    Report::new(facts)
}

fn verdict(item: Item, doctor: &Report, host: &Host) -> Verdict {
    judge(item, doctor, host).verdict
}

fn unsafe_items(doctor: &Report, host: &Host) -> Vec<Item> {
    all(doctor, host, &[])
        .into_iter()
        .filter(|check| check.verdict == Verdict::Unsafe)
        .map(|check| check.item)
        .collect()
}

#[test]
fn nothing_is_wrong_with_a_machine_that_was_prepared() {
    for check in all(&doctor(true), &sample::safe(), &[]) {
        assert_eq!(check.verdict, Verdict::Safe, "{check:?}");
        assert_eq!(check.fix, None, "{check:?}");
    }
}

/// One fact at a time is changed, and one item answers.
#[test]
fn each_fact_has_the_item_that_answers_for_it() {
    use Verdict::{Advice, Unsafe};
    type Change = fn(&mut Host);
    let cases: [(Item, Verdict, Change); 23] = [
        (Item::Kernel, Unsafe, |it| {
            it.kernel = "4.19.0-27-amd64".to_owned()
        }),
        (Item::Kernel, Unsafe, |it| it.kernel = "next".to_owned()),
        (Item::Kernel, Advice, |it| it.kernel = "6.12.3".to_owned()),
        (Item::Seccomp, Advice, |it| it.own_seccomp_filter = true),
        (Item::Vulnerabilities, Unsafe, |it| {
            it.vulnerabilities.clear()
        }),
        (Item::Vulnerabilities, Unsafe, |it| {
            it.vulnerabilities.push(Vulnerability {
                name: "mds".to_owned(),
                state: "Vulnerable: Clear CPU buffers attempted, no microcode".to_owned(),
            });
        }),
        (Item::Smt, Unsafe, |it| it.smt = Some(true)),
        (Item::Smt, Unsafe, |it| it.smt = None),
        (Item::Nested, Advice, |it| it.nested = Some(true)),
        (Item::Ksm, Unsafe, |it| it.ksm = Some(true)),
        (Item::Swap, Unsafe, |it| {
            it.swap.push(SwapArea {
                path: "/swapfile".to_owned(),
                bytes: 1 << 30,
            });
        }),
        (Item::CoreDumps, Unsafe, |it| {
            it.core_pattern = Some("|/lib/systemd/systemd-coredump %P".to_owned());
        }),
        (Item::CoreDumps, Unsafe, |it| it.core_pattern = None),
        (Item::KvmDevice, Unsafe, |it| it.kvm_device = None),
        (Item::KvmDevice, Advice, |it| {
            it.kvm_device = Some(Mode(0o666))
        }),
        (Item::Users, Unsafe, |it| {
            it.strangers.push("sh (7, user 1857028096)".to_owned())
        }),
        (Item::Users, Unsafe, |it| {
            it.users_overlap.push("bob in /etc/passwd".to_owned())
        }),
        (Item::Privileges, Unsafe, |it| {
            it.lacks.push("CAP_SYS_ADMIN")
        }),
        (Item::Paths, Unsafe, |it| {
            it.guarded[1].weak = Some("/usr/bin".into())
        }),
        (Item::DataDir, Unsafe, |it| {
            it.data_dir.mode = Some(Mode(0o755))
        }),
        (Item::DataDir, Unsafe, |it| {
            it.data_dir.devices = Some(false)
        }),
        (Item::DataDir, Advice, |it| {
            it.data_dir.reflink = Some(false)
        }),
        (Item::Listen, Unsafe, |it| {
            it.listen = ([0, 0, 0, 0], 80).into()
        }),
    ];
    let doctor = doctor(true);
    for (item, expected, change) in cases {
        let mut host = sample::safe();
        change(&mut host);
        for check in all(&doctor, &host, &[]) {
            let expected = if check.item == item {
                expected
            } else {
                Verdict::Safe
            };
            assert_eq!(check.verdict, expected, "{check:?} for {item:?}");
            assert_eq!(check.fix.is_some(), expected != Verdict::Safe, "{check:?}");
        }
    }
}

#[test]
fn what_costs_memory_is_advice() {
    let doctor = doctor(true);
    let mut host = sample::safe();
    host.huge_page_bytes = 1 << 30;
    host.transparent_huge_pages = Some("always".to_owned());
    assert_eq!(verdict(Item::HugePages, &doctor, &host), Verdict::Advice);
    assert_eq!(
        verdict(Item::TransparentHugePages, &doctor, &host),
        Verdict::Advice
    );
    host.data_dir.with_home = Some(false);
    assert_eq!(verdict(Item::DataDir, &doctor, &host), Verdict::Advice);
}

#[test]
fn swap_in_memory_is_no_disk() {
    let mut host = sample::safe();
    host.swap.push(SwapArea {
        path: "/dev/zram0".to_owned(),
        bytes: 1 << 30,
    });
    assert_eq!(verdict(Item::Swap, &doctor(true), &host), Verdict::Safe);
}

#[test]
fn emulation_is_no_wall() {
    let mut facts = machine::ready();
    facts.kvm.usable = Some(false);
    let doctor = Report::new(facts);
    assert_eq!(unsafe_items(&doctor, &sample::safe()), [Item::Engine]);
}

/// Each of QEMU's VMs opens the device as a user of its own; the probe, as
/// root, does not see that.
#[test]
fn qemu_needs_a_device_that_everybody_may_open() {
    let doctor = doctor(false);
    let mut host = sample::safe();
    assert_eq!(unsafe_items(&doctor, &host), [Item::KvmDevice]);
    host.kvm_device = Some(Mode(0o666));
    assert_eq!(unsafe_items(&doctor, &host), []);
}

#[test]
fn without_jailer_or_cgroups_nothing_holds_a_vm() {
    let mut doctor = doctor(true);
    doctor.facts.firecracker.jailer = JailerChoice::Off;
    doctor.facts.cgroups = "none".to_owned();
    assert_eq!(
        unsafe_items(&doctor, &sample::safe()),
        [Item::Jailer, Item::Cgroups]
    );
}

#[test]
fn what_is_accepted_does_not_fail_and_is_still_told() {
    let mut host = sample::safe();
    host.smt = Some(true);
    let checks = all(&doctor(true), &host, &[Item::Smt, Item::Swap]);
    let of = |item| checks.iter().find(|check| check.item == item).unwrap();
    assert_eq!(of(Item::Smt).verdict, Verdict::Accepted);
    assert!(of(Item::Smt).fix.is_some());
    assert_eq!(of(Item::Swap).verdict, Verdict::Safe);
}

#[test]
fn a_machine_that_runs_nothing_is_not_safe() {
    let doctor = Report::new(machine::fresh());
    let items = unsafe_items(&doctor, &sample::safe());
    assert!(
        items.contains(&Item::Sandboxes) && items.contains(&Item::Engine),
        "{items:?}"
    );
}
