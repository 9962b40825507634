use std::collections::BTreeSet;
use std::process::Command;

use super::*;

const PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin";

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn of(command: &str, variables: &[&str]) -> Option<Plain> {
    let environment: Vec<_> = variables.iter().map(|variable| c(variable)).collect();
    Plain::of(&c(command), c"/tmp", &environment)
}

#[test]
fn plain_words_are_the_program_and_its_arguments() {
    let plain = of("  env\t--null  -u=1 a.b/c ", &[PATH]).unwrap();
    assert!(plain.program.to_str().unwrap().ends_with("bin/env"));
    let arguments = ["env", "--null", "-u=1", "a.b/c"].map(c);
    assert_eq!(plain.arguments, arguments);
    assert_eq!(of("./run 1", &[PATH]).unwrap().program, c("./run"));
}

#[test]
fn what_means_something_to_a_shell_is_the_shells() {
    for command in [
        "",
        "  ",
        "env;",
        "env\nenv",
        "env | cat",
        "env > file",
        "env $HOME",
        "env `id`",
        "env ~",
        "env *",
        "env ?",
        "env [a]",
        "env {a,b}",
        "env 'a'",
        "env \"a\"",
        "env \\a",
        "env #",
        "env !",
        "env &",
        "%1",
        "env \u{e9}",
        "NAME=value env",
        "NAME=value",
        "cd /",
        "echo text",
        "test -f file",
        ". file",
        "exit 3",
        "time env",
        "true --version",
        "there-is-no-such-program",
    ] {
        assert_eq!(of(command, &[PATH]), None, "{command:?}");
    }
    assert!(of("true", &[PATH]).is_some());
}

#[test]
fn variables_that_bash_heeds_are_the_shells() {
    for variable in [
        "BASH_ENV=/file",
        "BASH_FUNC_env%%=() { :; }",
        "SHELLOPTS=xtrace",
        "PWD=/",
        "SHLVL=1",
    ] {
        assert_eq!(of("env", &[PATH, variable]), None, "{variable}");
    }
    for path in ["HOME=/", "PATH=", "PATH=.:/usr/bin", "PATH=/usr/bin/env"] {
        assert_eq!(of("env", &[path]), None, "{path}");
    }
}

/// Variables, and what the kernel says of the process.
#[test]
fn a_program_sees_what_it_sees_under_bash() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/usr", &link).unwrap();
    let cwd = c(link.to_str().unwrap());
    let environment = [c(PATH), c("NAME=a value")];
    for command in ["env", "readlink /proc/self/cwd", "cat /proc/self/cmdline"] {
        let plain = Plain::of(&c(command), &cwd, &environment).unwrap();
        let of_bash = run("/bin/bash", &["-c", command], &link, &environment);
        let arguments: Vec<_> = plain
            .arguments
            .iter()
            .map(|a| a.to_str().unwrap())
            .collect();
        let program = plain.program.to_str().unwrap();
        let own = run(program, &arguments[1..], &link, &plain.environment);
        let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
        // `cmdline` begins with what it was called, not where it was found.
        let own = own.replace(&format!("{program}\0"), &format!("{}\0", arguments[0]));
        assert_eq!(lines(&own), lines(&of_bash), "{command}");
    }
}

fn run(program: &str, arguments: &[&str], cwd: &Path, environment: &[CString]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(cwd).env_clear();
    for variable in environment {
        let (name, value) = variable.to_str().unwrap().split_once('=').unwrap();
        command.env(name, value);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn bash_knows_nothing_else() {
    let asked = Command::new("bash")
        .args(["-c", "compgen -b; compgen -k"])
        .output()
        .unwrap();
    let known = String::from_utf8(asked.stdout).unwrap();
    let missing: Vec<_> = known
        .lines()
        .filter(|word| {
            word.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".:[".contains(&byte))
        })
        .filter(|word| !["true", "false", "[["].contains(word) && !SHELLS_OWN.contains(word))
        .collect();
    assert_eq!(missing, [""; 0]);
}
