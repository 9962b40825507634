//! Everything a change must pass, the cheap parts first.

use anyhow::Result;

use crate::command::{self, cargo};
use crate::test::Slow;
use crate::{build, dependency, fuzz, openapi, setup, test};

/// Runs all of it; stops at the first failure.
pub(crate) fn run() -> Result<()> {
    command::run(cargo().args(["fmt", "--all", "--check"]))?;
    dependency::check()?;
    command::run(
        cargo()
            .args(["clippy", "--workspace", "--all-targets"])
            .args(["--", "-D", "warnings"]),
    )?;
    command::run(
        cargo()
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    fuzz::briefly()?;
    // What is checked is what the code does, not how fast.
    let product = setup::with(build::tests()?)?;
    openapi::check(&product.binary)?;
    test::every(&product, Slow::Left)
}
