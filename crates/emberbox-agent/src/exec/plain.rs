//! Commands that need no shell.
//!
//! A command of plain words is started as the shell would start it, without the
//! shell: as make and Perl do. In an emulated guest a shell's start takes twice
//! as long as that of the program.
//!
//! Invariant: the program sees what it would see under `bash -c`. In doubt, and
//! for every error, it is the shell that runs.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// What bash does itself, or takes as the begin of something longer
/// (bash(1), RESERVED WORDS and SHELL BUILTIN COMMANDS). `true` and `false` are
/// not here: the programs do the same.
const SHELLS_OWN: [&str; 76] = [
    ".",
    ":",
    "[",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
];

/// Variables that bash heeds at its start, or sets from what they were.
const HEEDED: [&str; 6] = [
    "SHELLOPTS",
    "POSIXLY_CORRECT",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
];

/// A program, as the shell would start it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
}

impl Plain {
    /// What the command comes to; `None` if it takes a shell to know.
    pub(super) fn of(command: &CStr, cwd: &CStr, environment: &[CString]) -> Option<Self> {
        let words = words(command.to_str().ok()?)?;
        let path = path_variable(environment)?;
        let program = find(words[0], path)?;
        let directory = std::fs::canonicalize(cwd.to_str().ok()?).ok()?;
        let set = [
            format!("PWD={}", directory.to_str()?),
            "SHLVL=0".to_owned(),
            format!("_={program}"),
        ];
        let mut environment = environment.to_vec();
        for variable in set {
            environment.push(CString::new(variable).ok()?);
        }
        let arguments = words.iter().map(|word| CString::new(*word).ok());
        Some(Self {
            program: CString::new(program).ok()?,
            arguments: arguments.collect::<Option<_>>()?,
            environment,
        })
    }
}

/// The words of a command in which nothing means something to a shell; at least
/// one.
fn words(command: &str) -> Option<Vec<&str>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@+:,./-= \t".contains(&byte);
    if !command.bytes().all(plain) {
        return None;
    }
    let words: Vec<_> = command
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    let (name, arguments) = words.split_first()?;
    let assigns = name.contains('=');
    // The programs take options, bash's own take nothing.
    let with_options = matches!(*name, "true" | "false") && !arguments.is_empty();
    (!assigns && !with_options && !SHELLS_OWN.contains(name)).then_some(words)
}

/// `PATH`, if bash would do nothing else with these variables than to pass them
/// on.
fn path_variable(environment: &[CString]) -> Option<&str> {
    let mut path = None;
    for variable in environment {
        let (name, value) = variable.to_str().ok()?.split_once('=')?;
        // Functions come in variables, too: `BASH_FUNC_…`.
        if name.starts_with("BASH") || HEEDED.contains(&name) {
            return None;
        }
        if name == "PATH" {
            path = Some(value);
        }
    }
    path
}

/// The program of this name.
fn find(name: &str, path: &str) -> Option<String> {
    if name.contains('/') {
        // From the working directory, where it is started.
        return Some(name.to_owned());
    }
    for directory in path.split(':') {
        let directory = Path::new(directory);
        if !directory.is_absolute() {
            return None;
        }
        let candidate: PathBuf = directory.join(name);
        if candidate.is_file() && access(&candidate, AccessFlags::X_OK).is_ok() {
            return candidate.to_str().map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests;
