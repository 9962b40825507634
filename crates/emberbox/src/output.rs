//! Writing to standard output, whoever reads it.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Blanks between two columns: values have single ones in them.
const COLUMN_GAP: u16 = 2;

/// Writes the text and a line's end.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.as_ref())?;
    stdout.flush()?;
    Ok(())
}

/// Writes the text as it is.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The text with its control characters, line ends among them, written out.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Writes JSON that a person can read as well.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Writes rows under their headings; cut to the width of a terminal, whole
/// anywhere else.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, COLUMN_GAP));
    }
    for text in table.lines() {
        line(text.trim_end())?;
    }
    Ok(())
}

/// Width of a field's name: the longest one, `artifacts`, and a blank.
const NAME_WIDTH: usize = 10;

/// Writes what is known of one thing, a line per field that has a value.
pub(crate) fn fields(fields: &[(&str, Option<&str>)]) -> Result<()> {
    for (name, value) in fields {
        if let Some(value) = value {
            line(format!("{name:<NAME_WIDTH$} {value}"))?;
        }
    }
    Ok(())
}

/// Whether this happened because nobody reads what we write any more
/// (`emberbox … | head`), which is no failure.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
