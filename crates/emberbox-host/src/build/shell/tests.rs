use std::process::Command;

use super::*;

/// What a shell of this machine says to it.
fn run(command: &str) -> (String, Option<i32>) {
    let output = Command::new("/bin/bash")
        .args(["-c", command])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code())
}

#[test]
fn any_word_is_one_word() {
    for word in ["a b", "it's", "'; exit 3; '", "$HOME", "\n", "", "-n"] {
        let (said, status) = run(&format!("printf %s {}", quote(word)));
        assert_eq!((said.as_str(), status), (word, Some(0)));
    }
}

#[test]
fn the_directory_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("with space/and 'quote'");
    let made = made.to_str().unwrap();
    let (said, status) = run(&as_user("root", made, "pwd; exit 7"));
    assert_eq!((said.trim(), status), (made, Some(7)));
    let (_, status) = run(&as_user("root", "/dev/null/x", "echo no"));
    assert_eq!(status, Some(126));
}

#[test]
fn the_app_is_found_and_what_it_writes_is_kept_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join("run").join(name).display().to_string();
    let (pid, log) = (path("app.pid"), path("app.log"));
    let start = "echo \"it's $$\"; echo error >&2; exit 7";
    for _ in 0..2 {
        let (said, status) = run(&found_at(&pid, &log, start, start));
        let own = std::fs::read_to_string(&pid).unwrap();
        let expected = format!("it's {}\nerror\n", own.trim());
        assert_eq!((said.as_str(), status), (expected.as_str(), Some(7)));
        let kept = std::fs::read_to_string(&log).unwrap();
        assert_eq!(kept, format!("$ {start}\n{expected}"));
    }
    let left = std::fs::read_dir(dir.path().join("run")).unwrap();
    assert_eq!(left.count(), 2);
}

#[test]
fn the_command_runs_as_its_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let show = "echo $(id -u):$(id -g) $HOME $USER \"it's\"";
    for (user, expected) in [
        ("nobody", "65534:65534 /nonexistent nobody it's"),
        ("nobody:0", "65534:0 /nonexistent nobody it's"),
        ("65534", "65534:65534 /nonexistent nobody it's"),
        ("4321", "4321:0 / 4321 it's"),
        ("4321:1234", "4321:1234 / 4321 it's"),
    ] {
        let (said, status) = run(&as_user(user, "/", show));
        assert_eq!((said.trim(), status), (expected, Some(0)), "{user}");
    }
    let (_, status) = run(&as_user("nobody-at-all", "/", "echo no"));
    assert_ne!(status, Some(0));
}
