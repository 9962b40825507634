//! Made-up machines.

use super::*;

fn program(program: &str, package: &str, why: &str, found: bool) -> Program {
    Program {
        program: program.to_owned(),
        package: package.to_owned(),
        why: why.to_owned(),
        found,
    }
}

/// A machine that was set up, without working KVM.
pub(crate) fn ready() -> Facts {
    Facts {
        version: "1.2.3".to_owned(),
        root: true,
        engine_wanted: EngineKind::Auto,
        accelerator_wanted: AcceleratorChoice::Auto,
        kvm: Kvm {
            device: true,
            usable: Some(false),
            reason: "/dev/kvm exists, but a probe VM did not boot within 15 s".to_owned(),
        },
        qemu: Some("7.2.22".to_owned()),
        firecracker: Firecracker {
            version: None,
            usable: Some(false),
            reason: "firecracker is not installed".to_owned(),
            jailer: JailerChoice::On,
        },
        home: HomeFacts {
            path: "/var/lib/emberbox".into(),
            exists: true,
            reflink: Some(false),
            free_bytes: Some(82_678_120_448),
        },
        templates: vec![Template {
            name: "miosa-sandbox".to_owned(),
            kernel: "/var/lib/emberbox/kernels/6.1.0-40-cloud-amd64/bzImage".into(),
        }],
        seeds: vec![Seed {
            key: "0f1e2d3c".to_owned(),
            shape: "1c-1024m-3072d".to_owned(),
            engine: "qemu 7.2.22 tcg".to_owned(),
        }],
        cgroups: "v2".to_owned(),
        memory: Memory {
            total_bytes: 25_769_803_776,
            available_bytes: 21_474_836_480,
        },
        programs: vec![
            program(
                "qemu-system-x86_64",
                "qemu-system-x86",
                "runs the VMs",
                true,
            ),
            program("nft", "nftables", "keeps sandboxes apart", true),
            program("mkfs.erofs", "erofs-utils", "packs root file systems", true),
            program("dump.erofs", "erofs-utils", "reads them", true),
        ],
    }
}

/// The same machine before anything was installed.
pub(crate) fn fresh() -> Facts {
    let mut facts = ready();
    facts.qemu = None;
    facts.kvm.usable = None;
    facts.kvm.reason = "whether it works shows once a guest can be booted".to_owned();
    facts.home.exists = false;
    facts.home.reflink = None;
    facts.templates.clear();
    facts.seeds.clear();
    facts.cgroups = "none".to_owned();
    for program in &mut facts.programs {
        program.found = false;
    }
    facts
}
