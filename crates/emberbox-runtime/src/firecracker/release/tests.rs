use std::os::unix::fs::PermissionsExt;

use super::*;

fn says(dir: &Path, name: &str, line: &str) -> PathBuf {
    let program = dir.join(name);
    std::fs::write(&program, format!("#!/bin/sh\necho '{line}'\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn known_releases_are_accepted_and_others_refused_in_words() {
    for known in ["1.13.0", "v1.14.2", "1.15.1", "1.16.1", "1.17.0-dev"] {
        let version: Version = known.parse().unwrap();
        assert_eq!(version.to_string(), known.trim_start_matches('v'));
    }
    for unknown in ["1.12.1", "1.18.0", "0.25.2", "2.0.0"] {
        let error = unknown.parse::<Version>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Firecracker {unknown} is not supported: install one of 1.13 to 1.17")
        );
    }
    for nonsense in ["", "v", "1", "one.two", "1.x", "Firecracker"] {
        let error = nonsense.parse::<Version>().unwrap_err();
        assert!(matches!(error, VersionError::Unreadable(_)), "{nonsense:?}");
    }
}

#[test]
fn what_changed_between_releases_is_known() {
    let release = |text: &str| text.parse::<Version>().unwrap().release;
    assert!(!release("1.14.0").takes_partial_snapshots(3073));
    assert!(release("1.14.0").takes_partial_snapshots(3072));
    assert!(release("1.15.0").takes_partial_snapshots(8192));
}

#[test]
fn programs_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let firecracker = says(dir.path(), "firecracker", "Firecracker v1.16.1");
    let programs = |jailer| Programs {
        firecracker: firecracker.clone(),
        jailer: Some(jailer),
    };
    let same = says(dir.path(), "jailer", "Jailer v1.16.1");
    assert_eq!(programs(same).version().unwrap().to_string(), "1.16.1");
    let other = says(dir.path(), "jailer-2", "Jailer v1.15.0");
    let error = programs(other).version().unwrap_err().to_string();
    assert!(
        error.contains("version 1.15.0, Firecracker is 1.16.1"),
        "{error}"
    );
    let error = programs(dir.path().join("nothing")).version().unwrap_err();
    assert!(matches!(error, ProgramError::Run { .. }));
    let wrong = says(dir.path(), "wrong", "something else");
    let error = programs(wrong).version().unwrap_err();
    assert!(matches!(error, ProgramError::Version { .. }));
}

#[test]
fn older_releases_get_the_uncompressed_kernel_or_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let bzimage = dir.path().join("bzImage");
    let kernel = |version: &str| version.parse::<Version>().unwrap().kernel(&bzimage);
    assert_eq!(kernel("1.17.0").unwrap(), bzimage);
    let error = kernel("1.16.1").unwrap_err();
    assert!(
        error.contains("1.16.1 boots no compressed kernel"),
        "{error}"
    );
    std::fs::write(dir.path().join("vmlinux"), "").unwrap();
    assert_eq!(kernel("1.16.1").unwrap(), dir.path().join("vmlinux"));
}

#[test]
fn a_firecracker_that_needs_libraries_is_refused() {
    let programs = |firecracker: &Path| Programs {
        firecracker: firecracker.to_owned(),
        jailer: None,
    };
    // Every test is linked dynamically here.
    let dynamic = programs(&std::env::current_exe().unwrap());
    let error = dynamic.check_static().unwrap_err();
    assert!(error.to_string().contains("dynamically linked"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let script = says(dir.path(), "firecracker", "Firecracker v1.16.1");
    let error = programs(&script).check_static().unwrap_err();
    assert!(matches!(error, ProgramError::Run { .. }), "{error}");
}

#[test]
fn a_program_that_is_not_there_is_told_with_what_to_do() {
    let error = find("EMBERBOX_NO_SUCH_VARIABLE", "no-such-firecracker").unwrap_err();
    assert_eq!(
        error,
        "no-such-firecracker is not installed: put it on the PATH, or name it in \
         EMBERBOX_NO_SUCH_VARIABLE"
    );
}
