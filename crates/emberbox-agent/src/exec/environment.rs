//! What variables a command sees: the agent's own, then the template's, then
//! the identity's, then the call's; the later wins.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;

use crate::system::System;

/// The base template's variables, `NAME=value` a line; `#` begins a comment.
const BASE_FILE: &str = "/etc/emberbox/env";

/// Those of a template that was built from it, `NAME=value` and a NUL byte
/// each; they win.
const TEMPLATE_FILE: &str = "/etc/emberbox/template.env";

/// Every command has these unless somebody says otherwise.
const BASE: [(&str, &str); 7] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LOGNAME", "root"),
    ("SHELL", "/bin/bash"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// A variable that no process can have. Values are never named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error("an environment variable has no name, or a name with '=' or a NUL byte")]
    Name,
    #[error("the environment variable {0} has a NUL byte in its value")]
    Value(String),
}

/// Variables by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The base and the template's own, as the template wrote them: what is no
    /// variable is skipped.
    pub(crate) fn of_template(system: &System) -> Self {
        let mut environment = Self(
            BASE.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        );
        let read = |path| fs::read_to_string(system.path(path)).unwrap_or_default();
        let (base, template) = (read(BASE_FILE), read(TEMPLATE_FILE));
        let base = base
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        for variable in base.chain(template.split('\0')) {
            if let Some((name, value)) = variable.split_once('=') {
                // Skipped for the same reason.
                let _ = environment.extend(&[(name.trim().to_owned(), value.to_owned())]);
            }
        }
        environment
    }

    /// Adds variables, or none of them.
    pub(crate) fn extend(&mut self, more: &[(String, String)]) -> Result<(), EnvironmentError> {
        for (name, value) in more {
            check(name, value)?;
        }
        self.0.extend(more.iter().cloned());
        Ok(())
    }

    /// These and `more`, as a process takes them.
    pub(crate) fn with(&self, more: &[(String, String)]) -> Result<Vec<CString>, EnvironmentError> {
        let mut all: BTreeMap<&str, &str> = BTreeMap::new();
        all.extend(self.0.iter().map(|(name, value)| (&**name, &**value)));
        for (name, value) in more {
            check(name, value)?;
            all.insert(name, value);
        }
        all.into_iter()
            .map(|(name, value)| {
                CString::new(format!("{name}={value}"))
                    .map_err(|_nul| EnvironmentError::Value(name.to_owned()))
            })
            .collect()
    }
}

fn check(name: &str, value: &str) -> Result<(), EnvironmentError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(EnvironmentError::Name);
    }
    if value.contains('\0') {
        return Err(EnvironmentError::Value(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
