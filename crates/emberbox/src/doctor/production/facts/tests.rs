use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn swap_areas_are_read_with_their_size() {
    let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                /dev/sda2                               partition\t2097148\t0\t-2\n";
    let expected = SwapArea {
        path: "/dev/sda2".to_owned(),
        bytes: 2_147_479_552,
    };
    assert_eq!(swap(text), [expected]);
    assert_eq!(swap("Filename\tType\n"), []);
}

#[test]
fn users_and_ranges_that_overlap_are_named() {
    let ids = 1000..=1999;
    let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1500:100::/:/bin/sh\nbob:x:2000:100::/:\n";
    assert_eq!(
        overlapping("/etc/passwd", passwd, &ids),
        ["alice in /etc/passwd"]
    );
    // Just below, across the beginning, just above, and all of it.
    let subuid = "a:900:100\nb:900:101\nc:2000:5\nd:0:4294967295\nnonsense\n";
    assert_eq!(
        overlapping("/etc/subuid", subuid, &ids),
        ["b in /etc/subuid", "d in /etc/subuid"]
    );
}

#[test]
fn privileges_that_are_missing_have_names() {
    assert_eq!(lacks("CapEff:\t000001ffffffffff\n"), [] as [&str; 0]);
    assert_eq!(
        lacks("CapEff:\t000001ffffffeffe\n"),
        ["CAP_CHOWN", "CAP_NET_ADMIN"]
    );
    assert_eq!(lacks("").len(), CAPABILITIES.len());
}

/// The unit and what is looked for here are one list.
#[test]
fn the_systemd_unit_grants_what_is_needed() {
    let unit = include_str!("../../../../../../packaging/systemd/emberbox.service");
    let granted = unit
        .lines()
        .filter_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .flat_map(str::split_whitespace)
        // Only for ports below 1024, which not every server listens on.
        .filter(|name| *name != "CAP_NET_BIND_SERVICE");
    let granted: Vec<_> = granted.collect();
    let needed: Vec<_> = CAPABILITIES.iter().map(|(_, name)| *name).collect();
    assert_eq!(granted, needed);
}

#[test]
fn a_file_that_others_can_replace_is_found_by_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    fs::create_dir(&open).unwrap();
    let mode = |mode| fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
    for (bits, weak) in [
        (0o755, false),
        (0o775, true),
        (0o757, true),
        (0o1777, false),
    ] {
        mode(bits);
        let facts = fs::metadata(&open).unwrap();
        let by_others = others_change(&facts);
        let owner = facts.uid() != 0;
        assert_eq!(by_others, weak || owner, "{bits:o}");
    }
}

#[test]
fn this_machine_can_be_looked_at() {
    let vm_users = DEFAULT_UID_BASE..=DEFAULT_UID_BASE + (MAX_SLOTS - 1);
    // Whoever runs tests is no VMM.
    assert!(
        !vm_users.contains(&users_of(&fs::read_to_string("/proc/self/status").unwrap()).unwrap())
    );
    for vulnerability in vulnerabilities() {
        assert_ne!(vulnerability.state, "", "{}", vulnerability.name);
    }
}
