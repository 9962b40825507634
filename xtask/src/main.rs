//! The project's own commands.
//!
//! Decides: in which order the product is built, set up, shown and checked.
//! Must not know: how any of it works; it speaks to the product only through
//! its command line and its HTTP API, as a user does.

#![expect(
    clippy::print_stdout,
    reason = "these commands talk to the person who typed them"
)]

mod bench;
mod build;
mod chaos;
mod ci;
mod command;
mod demo;
mod dependency;
mod engine;
mod fuzz;
mod openapi;
mod package;
mod patience;
mod rig;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, set up, show and check Emberbox.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the guest agent and the binary that carries it.
    Build,
    /// Install what is missing, build, and prepare guest images and the seed.
    Setup,
    /// Set up, then run code in a microVM on a server of its own and check
    /// every byte.
    Demo(demo::Arguments),
    /// Set up, then run every test.
    Test(test::Arguments),
    /// Everything a change must pass: format, lints, docs, drift checks, tests.
    Ci,
    /// Kill the server and VMMs and fill the disk under load, again and again,
    /// and check what is left each time.
    Chaos(chaos::Arguments),
    /// Give made-up bytes to what reads those of strangers.
    Fuzz(fuzz::Arguments),
    /// Run a command on an emulated machine with a KVM that works.
    Rig(rig::Arguments),
    /// Write docs/openapi.json anew from the types.
    Openapi,
    /// Measure; everything, and write docs/performance.md, when nothing is named.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    match patience::read().and_then(|()| run(task)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Build => build::release().map(|_| ()),
        Task::Setup => setup::run().map(|_| ()),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::Ci => ci::run(),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Rig(arguments) => return rig::run(&arguments),
        Task::Openapi => openapi::write(),
        Task::Bench(arguments) => bench::run(&arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}
