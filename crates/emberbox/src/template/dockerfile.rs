//! From a Dockerfile to a BuildSpec: the common subset, and a note for each
//! line that has no place in one.
//!
//! Only the last stage counts. Variables (`ARG`, `ENV`) are known to commands
//! by themselves; in the names of images and directories they are put in here.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use parse_dockerfile::{Command, HealthcheckArguments, Instruction, Span, UnescapedString};
use serde_json::{Value, json};

use crate::shell;

/// What came of a Dockerfile.
pub(super) struct Imported {
    /// A BuildSpec.
    pub(super) spec: Value,
    /// What has no place in it.
    pub(super) notes: Vec<Note>,
}

/// Something that was left out, or reads otherwise than in Docker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Counted from 1.
    pub(super) line: usize,
    /// What, and what to do instead.
    pub(super) message: String,
}

/// Reads a Dockerfile.
pub(super) fn import(text: &str) -> Result<Imported> {
    let dockerfile = parse_dockerfile::parse(text)?;
    let mut import = Import {
        text,
        ..Import::default()
    };
    for argument in dockerfile.global_args() {
        import.set_argument(&argument.arguments.value);
    }
    let mut stages = dockerfile.stages().collect::<Vec<_>>();
    let last = stages.pop().context("it has no FROM")?;
    for stage in stages {
        let message = "a stage before the last has no place; build it as a template of its own";
        import.note(&stage.from.from.span, message);
    }
    let from = import.expanded(&last.from.image);
    for instruction in last.instructions {
        import.take(instruction);
    }
    Ok(import.done(&from))
}

#[derive(Default)]
struct Import<'a> {
    text: &'a str,
    steps: Vec<Value>,
    /// Of the sandboxes.
    env: BTreeMap<String, String>,
    /// All that names may refer to.
    variables: BTreeMap<String, String>,
    workdir: Option<String>,
    user: Option<(String, Span)>,
    /// Whether a command runs before there is a `USER`.
    runs_as_root: bool,
    entrypoint: Option<String>,
    command: Option<String>,
    ready: Option<String>,
    port: Option<u16>,
    notes: Vec<Note>,
}

impl<'a> Import<'a> {
    fn take(&mut self, instruction: &Instruction<'a>) {
        match instruction {
            Instruction::Run(run) => {
                if !run.options.is_empty() {
                    self.note(&run.run.span, "the options of RUN are left out");
                }
                let command = match run.here_docs.as_slice() {
                    [] => command(&run.arguments),
                    [script] if is_here_doc_alone(&run.arguments) => script.value.to_string(),
                    _ => {
                        let message = "here-documents beside a command have no place; \
                                       write the command in one";
                        return self.note(&run.run.span, message);
                    }
                };
                self.runs_as_root |= self.user.is_none();
                self.begin_at_the_root();
                self.steps.push(json!({ "run": command }));
            }
            Instruction::Workdir(workdir) => {
                let path = self.expanded(&workdir.arguments);
                let path = match (path.starts_with('/'), &self.workdir) {
                    (true, _) => path,
                    (false, Some(at)) => format!("{}/{path}", at.trim_end_matches('/')),
                    (false, None) => format!("/{path}"),
                };
                self.steps.push(json!({ "workdir": path }));
                self.workdir = Some(path);
            }
            Instruction::Env(env) => {
                for (name, value) in pairs(&env.arguments.value) {
                    let value = self.expand(&value, &env.env.span);
                    self.steps.push(json!({ "env": { &name: value } }));
                    self.variables.insert(name.clone(), value.clone());
                    self.env.insert(name, value);
                }
            }
            Instruction::Arg(argument) => {
                if let Some((name, value)) = self.set_argument(&argument.arguments.value) {
                    self.steps.push(json!({ "env": { name: value } }));
                }
            }
            Instruction::User(user) => {
                let name = self.expanded(&user.arguments);
                self.user = Some((name, user.user.span.clone()));
            }
            Instruction::Expose(expose) => {
                for port in &expose.arguments {
                    let number = port.value.strip_suffix("/tcp").unwrap_or(&port.value);
                    match number.parse() {
                        Ok(number) if self.port.is_none() => self.port = Some(number),
                        Ok(_) | Err(_) => {
                            let message =
                                format!("{} is left out: there is one previewPort", port.value);
                            self.note(&port.span, message);
                        }
                    }
                }
            }
            Instruction::Cmd(cmd) => self.command = Some(command(&cmd.arguments)),
            Instruction::Entrypoint(entrypoint) => {
                self.entrypoint = Some(command(&entrypoint.arguments));
            }
            Instruction::Healthcheck(check) => match &check.arguments {
                HealthcheckArguments::Cmd { arguments, .. } => {
                    self.ready = Some(command(arguments))
                }
                _ => self.ready = None,
            },
            Instruction::Copy(copy) => self.no_context(&copy.copy.span, "COPY"),
            Instruction::Add(add) => self.no_context(&add.add.span, "ADD"),
            Instruction::Shell(shell) => {
                self.note(
                    &shell.shell.span,
                    "SHELL is left out: steps run in the shell of the base",
                );
            }
            Instruction::Volume(volume) => {
                self.note(
                    &volume.volume.span,
                    "VOLUME is left out: a sandbox keeps its whole disk",
                );
            }
            Instruction::Label(label) => self.note(&label.label.span, "LABEL is left out"),
            Instruction::Maintainer(of) => self.note(&of.maintainer.span, "MAINTAINER is left out"),
            Instruction::Stopsignal(stop) => {
                self.note(&stop.stopsignal.span, "STOPSIGNAL is left out");
            }
            Instruction::Onbuild(later) => self.note(&later.onbuild.span, "ONBUILD is left out"),
            // The parser may come to know more of them.
            _ => self.notes.push(Note {
                line: 0,
                message: "an instruction is not understood and left out".to_owned(),
            }),
        }
    }

    fn done(mut self, from: &str) -> Imported {
        let start = match (self.entrypoint.take(), self.command.take()) {
            (Some(entrypoint), Some(command)) => Some(format!("{entrypoint} {command}")),
            (entrypoint, command) => entrypoint.or(command),
        };
        let mut spec = json!({
            "from": from,
            "steps": self.steps,
            "env": self.env,
            "workdir": self.workdir.as_deref().unwrap_or("/"),
        });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec[name] = value;
            }
        };
        set("startCmd", start.map(Value::from));
        set("readyCmd", self.ready.take().map(Value::from));
        set("previewPort", self.port.map(Value::from));
        if let Some((user, span)) = self.user.take() {
            if self.runs_as_root {
                let message = format!(
                    "commands before USER {user} run as root, so all do: a BuildSpec has one user"
                );
                self.note(&span, message);
            } else {
                set("user", Some(Value::from(user)));
            }
        }
        self.notes.sort_by_key(|note| note.line);
        Imported {
            spec,
            notes: self.notes,
        }
    }

    /// Docker's commands begin at `/`, a BuildSpec's where the app will run.
    fn begin_at_the_root(&mut self) {
        if self.workdir.is_none() && !self.steps.iter().any(|step| step["workdir"].is_string()) {
            self.steps.push(json!({ "workdir": "/" }));
        }
    }

    fn no_context(&mut self, span: &Span, name: &str) {
        let message = format!(
            "{name} has no place: a build has no files of yours; fetch them in a step, or upload \
             them to the sandbox"
        );
        self.note(span, message);
    }

    fn set_argument(&mut self, text: &str) -> Option<(String, String)> {
        // One without a value may be a global one, which is known already.
        let (name, value) = text.split_once('=')?;
        let value = value.trim_matches(['"', '\'']).to_owned();
        self.variables.insert(name.to_owned(), value.clone());
        Some((name.to_owned(), value))
    }

    fn expanded(&mut self, text: &UnescapedString<'_>) -> String {
        self.expand(&text.value, &text.span)
    }

    /// The text with `$NAME` and `${NAME}` put in.
    fn expand(&mut self, text: &str, span: &Span) -> String {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let (name, after_it) = variable(after);
            match self.variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => {
                    self.note(span, format!("the variable in ${after} is not known here"));
                    expanded.push('$');
                    expanded.push_str(&after[..after.len() - after_it.len()]);
                }
            }
            rest = after_it;
        }
        expanded.push_str(rest);
        expanded
    }

    fn note(&mut self, span: &Span, message: impl Into<String>) {
        let before = self.text.get(..span.start).unwrap_or_default();
        self.notes.push(Note {
            line: before.matches('\n').count() + 1,
            message: message.into(),
        });
    }
}

/// The name behind a `$`, and what is after it.
fn variable(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (name, rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// A command as a shell takes it.
fn command(command: &Command<'_>) -> String {
    match command {
        Command::Exec(words) => {
            let words: Vec<_> = words
                .value
                .iter()
                .map(|word| word.value.to_string())
                .collect();
            shell::words(&words)
        }
        // Docker takes comments and blank lines out of a continued command; a
        // shell would end it there.
        Command::Shell(text) => {
            let mut lines = text.value.lines();
            let mut command = lines.next().unwrap_or_default().to_owned();
            for line in lines {
                let start = line.trim_start();
                if !start.is_empty() && !start.starts_with('#') {
                    command.push('\n');
                    command.push_str(line);
                }
            }
            command
        }
        // The parser may come to know more forms.
        _ => String::new(),
    }
}

/// Whether nothing stands behind the mark of a here-document.
fn is_here_doc_alone(command: &Command<'_>) -> bool {
    match command {
        Command::Shell(text) => text.value.trim().is_empty(),
        _ => false,
    }
}

/// `A=b "C=d e"` and the old `A b c`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let words = words(text);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) = text
            .trim()
            .split_once(char::is_whitespace)
            .unwrap_or((text, ""));
        return vec![(name.to_owned(), value.trim().to_owned())];
    }
    words
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Words with quotes and backslashes taken off.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                // A continued line goes on.
                if let Some(escaped) = characters.next().filter(|next| *next != '\n') {
                    word.get_or_insert_default().push(escaped);
                }
            }
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests;
