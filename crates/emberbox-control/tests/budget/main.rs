//! The instructions that a create takes in the control plane: the whole API over
//! a host that makes no VMs, with SQLite on disk. Time cannot be compared from
//! one machine to the next, and hardly from one minute to the next; the number of
//! instructions can.
//!
//! The program runs itself under `valgrind --tool=callgrind` with some creates and
//! with more of them: the difference has no start and no end of a server in it.
//! `EMBERBOX_BLESS=1` writes `budget.json`.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::{Deserialize, Serialize};

#[path = "../../benches/api/ask.rs"]
#[expect(dead_code, reason = "the bench uses all of it")]
mod ask;
#[path = "../../benches/api/serve.rs"]
#[expect(dead_code, reason = "the bench uses all of it")]
mod serve;

#[path = "../http/rig"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod rig {
    pub(crate) mod builder;
    pub(crate) mod fleet;
}

use ask::{Asker, post};
use serve::Served;

/// Set in the process that creates: how many.
const CREATES: &str = "EMBERBOX_TEST_CREATES";

/// The two runs; the first one warms up all that is warmed up once.
const FEW: u32 = 30;
const MORE: u32 = 90;

/// How far a change may go without a word, up or down.
const TOLERANCE: f64 = 0.05;

/// What is committed.
#[derive(Debug, Serialize, Deserialize)]
struct Budget {
    /// Of the profile that tests are built with.
    instructions_per_create: f64,
}

fn main() -> ExitCode {
    if let Some(count) = std::env::var_os(CREATES) {
        create(count.to_str().unwrap().parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let keeps = Trial::test("a_create_keeps_to_its_budget", keeps_to_its_budget)
        // Other profiles are other numbers.
        .with_ignored_flag(!cfg!(debug_assertions));
    libtest_mimic::run(&Arguments::from_args(), vec![keeps]).exit_code()
}

fn keeps_to_its_budget() -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let few = instructions(directory.path(), FEW)?;
    let more = instructions(directory.path(), MORE)?;
    let per_create = (more - few) / f64::from(MORE - FEW);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/budget/budget.json");
    if std::env::var_os("EMBERBOX_BLESS").is_some() {
        let budget = Budget {
            instructions_per_create: per_create.round(),
        };
        let text = serde_json::to_string_pretty(&budget)? + "\n";
        return Ok(std::fs::write(file, text)?);
    }
    let budget: Budget = serde_json::from_slice(&std::fs::read(file)?)?;
    let budget = budget.instructions_per_create;
    let change = per_create / budget - 1.0;
    if change.abs() > TOLERANCE {
        return Err(format!(
            "a create takes {per_create:.0} instructions, {:+.1} % of the budget's {budget:.0}; if \
             that is meant, run this test with EMBERBOX_BLESS=1 and commit its budget.json",
            change * 100.0
        )
        .into());
    }
    Ok(())
}

/// Those of a whole process that makes `creates` sandboxes.
fn instructions(directory: &Path, creates: u32) -> Result<f64, Failed> {
    let profile = directory.join(format!("{creates}.callgrind"));
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(&profile);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(file)
        .arg(std::env::current_exe()?)
        .env(CREATES, creates.to_string())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run valgrind (Debian's package of that name): {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("valgrind: {}\n{said}", output.status).into());
    }
    let written = std::fs::read_to_string(profile)?;
    let total = written
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    Ok(total.ok_or("callgrind wrote no total")?.parse()?)
}

/// Makes so many, one after the other.
fn create(count: u32) {
    let served = Served::start();
    ask::block_on(async {
        let mut asker = Asker::connect(served.address).await;
        let request = post("/api/v1/sandboxes", &served.creators[0], "{}");
        for _ in 0..count {
            asker.ask(&request).await;
        }
    });
    served.stop();
}
