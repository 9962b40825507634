//! Every test, those from outside against the binary included.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::command::{self, cargo};
use crate::package::{self, Requirement};
use crate::setup::{self, Product};

/// How to test.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on to `cargo test --workspace`, for example `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Sets up, then runs them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let product = setup::run()?;
    with(&product, &arguments.rest)
}

/// Runs them against a product that is set up.
pub(crate) fn with(product: &Product, rest: &[String]) -> Result<()> {
    package::install(&missing_for_tests())?;
    let mut test = cargo();
    test.args(["test", "--workspace"])
        .args(rest)
        .env("EMBERBOX_BIN", &product.binary)
        .env("EMBERBOX_HOME", &product.home)
        // What cannot run here has to fail, not to be skipped.
        .env("EMBERBOX_REQUIRE_VMS", "1");
    command::run(build::carry(&mut test, &product.agent))
}

/// What the tests use besides the product: the official Python client in a
/// virtual environment, and the commands of the documents.
fn missing_for_tests() -> Vec<Requirement> {
    let has = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    let needed = [
        (
            has("python3", &["-c", "import ensurepip, venv"]),
            "python3 -m venv",
            "python3-venv",
            "tests run Python clients in a virtual environment",
        ),
        (
            has("chromium", &["--version"]),
            "chromium",
            "chromium",
            "a test opens a preview in a real browser",
        ),
        (
            has("chromedriver", &["--version"]),
            "chromedriver",
            "chromium-driver",
            "a test opens a preview in a real browser",
        ),
        (
            has("jq", &["--version"]),
            "jq",
            "jq",
            "tests run the commands of the documents",
        ),
        (
            has("curl", &["--version"]),
            "curl",
            "curl",
            "tests run the commands of the documents",
        ),
    ];
    let missing = needed.into_iter().filter(|(there, ..)| !there);
    missing
        .map(|(_, program, package, why)| Requirement {
            program: program.to_owned(),
            package: package.to_owned(),
            why: why.to_owned(),
        })
        .collect()
}
