//! The emberbox binary.
//!
//! Decides: configuration, logging, and which parts are put together.
//! Must not know: how a sandbox is made; it asks the server (over HTTP) or
//! wires the crates that do it.
//!
//! | module | answers |
//! |---|---|
//! | `cli` | what can be typed |
//! | `config` | what an operator may set |
//! | `serve` | how a server starts and ends |
//! | `setup` | how a machine gets its images and seed |
//! | `doctor` | what this machine can do, and what is missing |
//! | `client` | which server is spoken to, and how errors are shown |
//! | `interrupt` | what Ctrl-C does |
//! | `sandbox`, `deployment`, `template`, `tenancy`, `key`, `billing` | the commands of a user |

mod agent;
mod billing;
mod cli;
mod client;
mod config;
mod deployment;
mod doctor;
mod interrupt;
mod key;
mod openapi;
mod output;
mod progress;
mod sandbox;
mod serve;
mod setup;
mod shell;
mod template;
mod tenancy;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Arguments, Command};

fn main() -> ExitCode {
    // First of all: the jail must not have any thread of ours.
    emberbox_runtime::jail::become_jail_if_asked();
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            client::report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match arguments.command {
        Command::Serve(serve) => serve::run(&serve).map(done),
        Command::Setup(setup) => setup::run(&setup).map(done),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::Openapi => openapi::run().map(done),
        Command::Sandbox { command } => on_one_thread(sandbox::run(command)),
        Command::Deployment { command } => on_one_thread(deployment::run(command)).map(done),
        Command::Template { command } => on_one_thread(template::run(command)),
        Command::Tenant { command } => on_one_thread(tenancy::tenant(command)).map(done),
        Command::Workspace { command } => on_one_thread(tenancy::workspace(command)).map(done),
        Command::Project { command } => on_one_thread(tenancy::project(command)).map(done),
        Command::Key { command } => on_one_thread(key::run(command)).map(done),
        Command::Usage(arguments) => on_one_thread(billing::usage(arguments)).map(done),
        Command::Credit { command } => on_one_thread(billing::credit(command)).map(done),
    }
}

/// Runs a client's command: one call after the other needs no more threads.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let result = runtime.block_on(work);
    // A read of the keyboard that is under way cannot be ended.
    runtime.shutdown_background();
    result
}
