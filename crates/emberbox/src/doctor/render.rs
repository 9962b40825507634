//! The report for people.

use std::fmt::Write;

use super::facts::Facts;
use super::report::{Chosen, Report};

const GIB: u64 = 1 << 30;

/// The whole text.
pub(crate) fn text(report: &Report) -> String {
    let facts = &report.facts;
    let mut text = String::new();
    let verdict = if report.ok {
        "sandboxes can run here"
    } else {
        "sandboxes cannot run here yet"
    };
    put(
        &mut text,
        format_args!("emberbox {}: {verdict}\n", facts.version),
    );
    for (name, value) in rows(report) {
        put(&mut text, format_args!("  {name:<12} {value}"));
    }
    if !report.missing.is_empty() {
        put(&mut text, format_args!("\nmissing:"));
        for program in &report.missing {
            put(
                &mut text,
                format_args!("  {:<20} {}", program.program, program.why),
            );
        }
    }
    if let Some(install) = &report.install {
        put(&mut text, format_args!("\n  to install it:  {install}"));
    }
    if !report.problems.is_empty() {
        put(&mut text, format_args!("\nin the way:"));
        for problem in &report.problems {
            put(
                &mut text,
                format_args!("  {}\n    to mend it:  {}", problem.what, problem.fix),
            );
        }
    }
    text
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes everything");
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let facts = &report.facts;
    let mut rows = vec![
        ("engine", engine(report.engine.as_ref())),
        ("KVM", kvm(facts)),
        (
            "QEMU",
            facts
                .qemu
                .clone()
                .unwrap_or_else(|| "not installed".to_owned()),
        ),
        ("Firecracker", firecracker(facts)),
        ("home", home(facts)),
    ];
    if facts.templates.is_empty() {
        rows.push(("templates", "none".to_owned()));
    }
    for template in &facts.templates {
        rows.push(("template", template.name.clone()));
        rows.push(("kernel", template.kernel.display().to_string()));
    }
    if facts.seeds.is_empty() {
        rows.push((
            "seeds",
            "none; the first sandbox of each shape boots cold".to_owned(),
        ));
    }
    for seed in &facts.seeds {
        rows.push((
            "seed",
            format!("{} by {} ({})", seed.shape, seed.engine, seed.key),
        ));
    }
    rows.push(("cgroups", cgroups(facts)));
    rows.push(("memory", memory(facts)));
    rows.push((
        "user",
        if facts.root { "root" } else { "not root" }.to_owned(),
    ));
    rows
}

fn engine(chosen: Option<&Chosen>) -> String {
    let Some(chosen) = chosen else {
        return "none".to_owned();
    };
    let how = match chosen.accelerator {
        "kvm" => "with KVM",
        _ => "in software emulation",
    };
    format!("{} {} {how}", chosen.name, chosen.version)
}

fn firecracker(facts: &Facts) -> String {
    let firecracker = &facts.firecracker;
    match &firecracker.version {
        Some(version) => format!("{version}: {}", firecracker.reason),
        None => firecracker.reason.clone(),
    }
}

fn kvm(facts: &Facts) -> String {
    let verdict = match facts.kvm.usable {
        Some(true) => "usable",
        Some(false) => "not usable",
        None => "not known",
    };
    format!("{verdict}: {}", facts.kvm.reason)
}

fn home(facts: &Facts) -> String {
    let home = &facts.home;
    let mut notes = Vec::new();
    if !home.exists {
        notes.push("not there yet".to_owned());
    }
    if let Some(free) = home.free_bytes {
        notes.push(format!("{} free", gib(free)));
    }
    match home.reflink {
        Some(true) => notes.push("reflinks: disks are cloned at no cost".to_owned()),
        Some(false) => notes.push("no reflinks: what a disk holds is copied".to_owned()),
        None => {}
    }
    format!("{} ({})", home.path.display(), notes.join(", "))
}

fn cgroups(facts: &Facts) -> String {
    match facts.cgroups.as_str() {
        "none" => "none usable: VMs are not limited from outside".to_owned(),
        version => version.to_owned(),
    }
}

fn memory(facts: &Facts) -> String {
    let memory = &facts.memory;
    format!(
        "{} of {} available",
        gib(memory.available_bytes),
        gib(memory.total_bytes)
    )
}

fn gib(bytes: u64) -> String {
    let tenths = bytes * 10 / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
