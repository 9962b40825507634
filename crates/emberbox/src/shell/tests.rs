use std::process::Command;

use super::line;

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments
        .iter()
        .map(|&argument| argument.to_owned())
        .collect()
}

#[test]
fn one_argument_is_a_line_for_the_shell() {
    assert_eq!(line(&owned(&["echo $HOME | wc"])), "echo $HOME | wc");
}

#[test]
fn a_shell_sees_several_arguments_exactly_as_they_are() {
    let nasty = [
        "", " ", "a b", "it's", "''", "\"q\"", "$HOME", "`id`", "a\nb", "*", "~", "#x", "a=b",
        "\\", "é", "-n", "--", "!x", "a;b", "(", "&",
    ];
    let mut arguments = owned(&["printf", "%s\\0"]);
    arguments.extend(owned(&nasty));
    let output = Command::new("sh")
        .arg("-c")
        .arg(line(&arguments))
        .output()
        .unwrap();
    let expected: String = nasty
        .iter()
        .map(|argument| format!("{argument}\0"))
        .collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
