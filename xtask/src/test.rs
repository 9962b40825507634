//! Every test, those from outside against the binary included.

use anyhow::Result;

use crate::build;
use crate::command::{self, cargo};
use crate::package;
use crate::setup::{self, Product};

mod program;
mod tool;

/// How to test.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also those from outside that take many minutes under emulation.
    #[arg(long)]
    all: bool,
    /// Passed on to `cargo test --workspace`, for example `-- --nocapture`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Sets up, then runs them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let product = setup::run()?;
    if arguments.rest.is_empty() {
        let slow = if arguments.all { Slow::Run } else { Slow::Left };
        return every(&product, slow);
    }
    package::install(&tool::missing())?;
    let mut test = cargo();
    test.args(["test", "--workspace"]).args(&arguments.rest);
    build::carry(&mut test, &product.agent).envs(environment(&product));
    command::run(&mut test)
}

/// What becomes of the tests that take many minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slow {
    /// They run with the others.
    Run,
    /// They are left out.
    Left,
}

/// Runs all of them against a product that is set up.
pub(crate) fn every(product: &Product, slow: Slow) -> Result<()> {
    package::install(&tool::missing())?;
    let programs = program::build(&product.agent)?;
    // The documentation has no examples that run: they would be one more pass.
    program::run(programs, &environment(product), slow)
}

/// What tests on real VMs are told.
fn environment(product: &Product) -> [(&'static str, &std::ffi::OsStr); 3] {
    [
        ("EMBERBOX_BIN", product.binary.as_os_str()),
        ("EMBERBOX_HOME", product.home.as_os_str()),
        // What cannot run here has to fail, not to be skipped.
        ("EMBERBOX_REQUIRE_VMS", "1".as_ref()),
    ]
}
