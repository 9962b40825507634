//! Turning arguments into one line for a shell.

use std::borrow::Cow;

/// One argument is a shell line already; several are a program and its
/// arguments, which the shell must see exactly as they are.
pub(crate) fn line(arguments: &[String]) -> String {
    match arguments {
        [line] => line.clone(),
        several => words(several),
    }
}

/// A program and its arguments, which the shell must see exactly as they are.
pub(crate) fn words(arguments: &[String]) -> String {
    let quoted: Vec<_> = arguments.iter().map(|argument| quoted(argument)).collect();
    quoted.join(" ")
}

fn quoted(argument: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+:,./-".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return Cow::Borrowed(argument);
    }
    Cow::Owned(format!("'{}'", argument.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests;
