//! Makes the base template in a home, or shows that it is there.
//!
//! `cargo run -p emberbox-image --release --example ensure -- HOME AGENT`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use emberbox_image::{BASE_TEMPLATE, EnsureRequest, Home, KernelChoice, Progress, ensure};

struct Log(Instant);

impl Progress for Log {
    fn step(&self, name: &str) {
        eprintln!("{:6.1} s  {name}", self.0.elapsed().as_secs_f32());
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let home = args.next().map_or_else(Home::default_path, PathBuf::from);
    let agent = PathBuf::from(args.next().context("usage: ensure HOME AGENT")?);
    let agent =
        std::fs::read(&agent).with_context(|| format!("cannot read {}", agent.display()))?;

    let started = Instant::now();
    let request = EnsureRequest {
        template: BASE_TEMPLATE,
        agent: &agent,
        kernel: &KernelChoice::Distribution,
        trust_host_ca: true,
        refresh: std::env::var_os("EMBERBOX_REFRESH").is_some(),
    };
    let images = ensure(&Home::open(home)?, &request, &Log(started))?;
    eprintln!("{images:#?}");
    eprintln!("done in {:.3} s", started.elapsed().as_secs_f32());
    Ok(())
}
