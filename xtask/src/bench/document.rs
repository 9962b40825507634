//! `docs/performance.md`: what people wrote stays, what was measured is
//! written between markers.
//!
//! A bench's figures stand between `<!-- begin bench NAME -->` and
//! `<!-- end bench NAME -->`, all targets between those of `targets`. A bench
//! without a place gets a section at the end.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::report::Report;
use super::{markdown, plot};
use crate::command::root;

/// The place of the table of all targets.
const TARGETS: &str = "targets";

/// Writes the figures into the document and their plots beside it.
pub(super) fn write(reports: &[Report]) -> Result<()> {
    let docs = root().join("docs");
    let file = docs.join("performance.md");
    let before =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    replace(&file, &with_figures(&before, reports)?)?;
    let images = docs.join("img");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    for plot in reports.iter().flat_map(plot::of) {
        replace(&images.join(&plot.file), &plot.svg()?)?;
    }
    println!("written: docs/performance.md, docs/img");
    Ok(())
}

/// The document with these figures in the places of their benches.
fn with_figures(document: &str, reports: &[Report]) -> Result<String> {
    let targets = reports.iter().flat_map(|report| &report.findings.targets);
    let mut document = place(document, TARGETS, &markdown::targets(targets))?;
    for report in reports {
        let figures = markdown::report(report) + &markdown::images(report);
        document = place(&document, &report.bench, &figures)?;
    }
    Ok(document)
}

/// Puts text into a place, which is made at the end if there is none.
fn place(document: &str, name: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- begin bench {name} -->\n");
    let end = format!("<!-- end bench {name} -->\n");
    let Some((before, rest)) = document.split_once(&begin) else {
        ensure!(
            !document.contains(&end),
            "docs/performance.md has an end of bench {name} without its begin"
        );
        return Ok(format!(
            "{document}\n## `cargo xtask bench {name}`\n\n{begin}\n{text}\n{end}"
        ));
    };
    let (_, after) = rest.split_once(&end).with_context(|| {
        format!("docs/performance.md has a begin of bench {name} without its end")
    })?;
    Ok(format!("{before}{begin}\n{text}\n{end}{after}"))
}

/// Whole or not at all.
fn replace(file: &Path, text: &str) -> Result<()> {
    let directory = file.parent().context("a file lies in a directory")?;
    let written = || -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::PermissionsExt;
        let mut new = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(directory)?;
        new.write_all(text.as_bytes())?;
        new.persist(file).map_err(|error| error.error)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests;
