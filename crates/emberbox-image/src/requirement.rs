//! Which programs of the host are needed to make images.

use crate::command;

/// One program this host must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// The program.
    pub program: &'static str,
    /// The Debian and Ubuntu package it is in.
    pub package: &'static str,
    /// What it is needed for.
    pub why: &'static str,
}

const REQUIREMENTS: [Requirement; 10] = [
    Requirement {
        program: "mmdebstrap",
        package: "mmdebstrap",
        why: "makes the base template from the distribution's packages",
    },
    Requirement {
        program: "mkfs.erofs",
        package: "erofs-utils",
        why: "packs root file systems",
    },
    Requirement {
        program: "mkfs.ext4",
        package: "e2fsprogs",
        why: "makes the scratch disk of every sandbox",
    },
    Requirement {
        program: "apt-get",
        package: "apt",
        why: "downloads the guest kernel",
    },
    Requirement {
        program: "apt-cache",
        package: "apt",
        why: "finds the guest kernel",
    },
    Requirement {
        program: "apt-config",
        package: "apt",
        why: "reads the host's proxy settings",
    },
    Requirement {
        program: "dpkg-deb",
        package: "dpkg",
        why: "unpacks the guest kernel",
    },
    Requirement {
        program: "dpkg",
        package: "dpkg",
        why: "installs packages into the base template",
    },
    Requirement {
        program: "unshare",
        package: "util-linux",
        why: "keeps the mounts of a template build away from the host",
    },
    Requirement {
        program: "setpriv",
        package: "util-linux",
        why: "ends a template build together with the process that wanted it",
    },
];

/// All of them.
#[must_use]
pub fn requirements() -> &'static [Requirement] {
    &REQUIREMENTS
}

/// Those that are not installed here.
#[must_use]
pub fn missing() -> Vec<Requirement> {
    REQUIREMENTS
        .into_iter()
        .filter(|requirement| command::find(requirement.program).is_none())
        .collect()
}

/// The package `program` is in.
pub(crate) fn package_of(program: &str) -> &'static str {
    REQUIREMENTS
        .iter()
        .find(|requirement| requirement.program == program)
        .expect("every program that is run is in the list")
        .package
}
