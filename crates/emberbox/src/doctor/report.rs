//! Judging the facts: what is needed, what is chosen, what to do.

use serde::Serialize;

use emberbox_host::{AcceleratorChoice, EngineKind, JailerChoice};

use super::facts::{Facts, Program, QEMU};

/// The facts and what follows from them.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Sandboxes can run here now.
    pub(crate) ok: bool,
    /// What would run them; nothing when no VMM is installed or the wanted
    /// accelerator does not work.
    pub(crate) engine: Option<Chosen>,
    /// Programs that are needed and not there.
    pub(crate) missing: Vec<Program>,
    /// What else stands in the way, each with what to do about it.
    pub(crate) problems: Vec<Problem>,
    /// The command that installs what is missing.
    pub(crate) install: Option<String>,
    #[serde(flatten)]
    pub(crate) facts: Facts,
}

/// The engine that would be used.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Chosen {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    /// `kvm` or `tcg`.
    pub(crate) accelerator: &'static str,
}

/// Something in the way.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) what: String,
    pub(crate) fix: String,
}

impl Report {
    pub(crate) fn new(facts: Facts) -> Self {
        let engine = chosen(&facts);
        let firecracker = engine.as_ref().is_some_and(|it| it.name == "firecracker");
        let missing: Vec<Program> = facts
            .programs
            .iter()
            .filter(|program| !program.found)
            // Firecracker needs no other VMM beside it.
            .filter(|program| !(firecracker && program.program == QEMU))
            .cloned()
            .collect();
        let problems = problems(&facts, &missing, engine.as_ref());
        Self {
            ok: missing.is_empty() && problems.is_empty(),
            install: install(&missing),
            engine,
            missing,
            problems,
            facts,
        }
    }
}

fn chosen(facts: &Facts) -> Option<Chosen> {
    match facts.engine_wanted {
        EngineKind::Auto => firecracker(facts).or_else(|| qemu(facts)),
        EngineKind::Qemu => qemu(facts),
        EngineKind::Firecracker => firecracker(facts),
    }
}

fn firecracker(facts: &Facts) -> Option<Chosen> {
    let wanted = match facts.accelerator_wanted {
        AcceleratorChoice::Auto | AcceleratorChoice::Kvm => true,
        AcceleratorChoice::Tcg => false,
    };
    if !wanted || facts.firecracker.usable != Some(true) {
        return None;
    }
    Some(Chosen {
        name: "firecracker",
        version: facts.firecracker.version.clone()?,
        accelerator: "kvm",
    })
}

fn qemu(facts: &Facts) -> Option<Chosen> {
    let version = facts.qemu.clone()?;
    let accelerator = match (facts.kvm.usable, facts.accelerator_wanted) {
        (_, AcceleratorChoice::Tcg) => "tcg",
        (Some(true), AcceleratorChoice::Auto | AcceleratorChoice::Kvm) => "kvm",
        (Some(false) | None, AcceleratorChoice::Auto) => "tcg",
        (Some(false) | None, AcceleratorChoice::Kvm) => return None,
    };
    Some(Chosen {
        name: "qemu",
        version,
        accelerator,
    })
}

fn problems(facts: &Facts, missing: &[Program], engine: Option<&Chosen>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !facts.root {
        problems.push(Problem {
            what: "not root: networks and jails of sandboxes cannot be made".to_owned(),
            fix: "run emberbox as root".to_owned(),
        });
    }
    problems.extend(engine_problem(facts, engine));
    if engine.is_some_and(|engine| engine.name == "firecracker")
        && facts.firecracker.jailer == JailerChoice::Off
    {
        problems.push(Problem {
            what: "engine.jailer is off: Firecracker runs as root, and a guest that breaks out of \
                   it owns this machine"
                .to_owned(),
            fix: "set engine.jailer to on".to_owned(),
        });
    }
    // Nothing can be made before the programs are there, and nobody needs to
    // be told twice.
    if facts.templates.is_empty() && missing.is_empty() {
        problems.push(Problem {
            what: format!("no template in {}", facts.home.path.display()),
            fix: "emberbox setup".to_owned(),
        });
    }
    problems
}

/// Why what is wanted cannot run.
fn engine_problem(facts: &Facts, engine: Option<&Chosen>) -> Option<Problem> {
    if engine.is_some() {
        return None;
    }
    if facts.engine_wanted == EngineKind::Firecracker {
        return Some(Problem {
            what: format!(
                "engine.kind is firecracker, and it cannot be used: {}",
                facts.firecracker.reason
            ),
            fix: "install Firecracker and its jailer (1.13 to 1.17) where KVM works, or set \
                  engine.kind to auto"
                .to_owned(),
        });
    }
    // Without QEMU it is among the programs that are missing.
    facts.qemu.as_ref().map(|_| Problem {
        what: format!(
            "engine.accel is kvm, and KVM is not usable: {}",
            facts.kvm.reason
        ),
        fix: "set engine.accel to auto".to_owned(),
    })
}

/// One line that can be pasted.
fn install(missing: &[Program]) -> Option<String> {
    let mut packages: Vec<&str> = missing
        .iter()
        .map(|program| program.package.as_str())
        .collect();
    packages.sort_unstable();
    packages.dedup();
    (!packages.is_empty()).then(|| {
        format!(
            "apt-get install -y --no-install-recommends {}",
            packages.join(" ")
        )
    })
}

#[cfg(test)]
mod tests;
