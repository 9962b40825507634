use clap::{CommandFactory, Parser};

use super::*;

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn everything_after_two_dashes_is_the_command() {
    let line = [
        "emberbox", "sandbox", "exec", "sbx_1", "--cwd", "/", "--", "ls", "--color", "-l",
    ];
    let parsed = Arguments::try_parse_from(line).unwrap();
    let Command::Sandbox {
        command: SandboxCommand::Exec(exec),
    } = parsed.command
    else {
        panic!("not an exec: {parsed:?}");
    };
    assert_eq!(exec.id, "sbx_1");
    assert_eq!(exec.cwd.as_deref(), Some("/"));
    assert_eq!(exec.command, ["ls", "--color", "-l"]);
}

#[test]
fn a_variable_needs_a_name_and_may_have_any_value() {
    assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
    assert_eq!(pair("A="), Ok(("A".to_owned(), String::new())));
    assert!(pair("=b").is_err());
    assert!(pair("A").is_err());
}

/// What `--help` says, of every command.
fn help_of(command: &mut clap::Command, path: &str, text: &mut String) {
    *text += &format!("$ {path} --help\n{}\n", command.render_help());
    for sub in command
        .get_subcommands_mut()
        .filter(|sub| sub.get_name() != "help")
    {
        let path = format!("{path} {}", sub.get_name());
        help_of(sub, &path, text);
    }
}

#[test]
fn help_reads_as_it_did() {
    let mut command = Arguments::command();
    command.build();
    let mut text = String::new();
    help_of(&mut command, "emberbox", &mut text);
    expect_test::expect_file!["tests/help.txt"].assert_eq(&text);
}
