//! A made-up machine on which nothing is wrong.

use super::*;

pub(in crate::doctor::production) fn safe() -> Host {
    let guarded = |what, path: &str| Guarded {
        what,
        path: path.into(),
        weak: None,
    };
    Host {
        kernel: "6.1.0-40-amd64".to_owned(),
        vulnerabilities: vec![
            Vulnerability {
                name: "l1tf".to_owned(),
                state: "Not affected".to_owned(),
            },
            Vulnerability {
                name: "spectre_v2".to_owned(),
                state: "Mitigation: Retpolines; STIBP: disabled".to_owned(),
            },
        ],
        smt: Some(false),
        nested: Some(false),
        ksm: Some(false),
        swap: Vec::new(),
        core_pattern: Some("core".to_owned()),
        transparent_huge_pages: Some("madvise".to_owned()),
        huge_page_bytes: 0,
        kvm_device: Some(Mode(0o660)),
        vm_users: (1_857_028_096, 1_857_093_631),
        users_overlap: Vec::new(),
        strangers: Vec::new(),
        lacks: Vec::new(),
        guarded: vec![
            guarded("home", "/var/lib/emberbox"),
            guarded("Firecracker", "/usr/bin/firecracker"),
        ],
        data_dir: DataDirFacts {
            path: "/var/lib/emberbox-server".into(),
            mode: Some(Mode(0o700)),
            devices: Some(true),
            reflink: Some(true),
            with_home: Some(true),
        },
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        own_seccomp_filter: false,
    }
}
