//! Makes an archive a layer, as a build does with what a guest sends, and says
//! how long that took, in microseconds: what `cargo xtask bench build` compares
//! with `tar` and `mkfs.erofs`.
//!
//! `cargo run -p emberbox-image --release --example pack -- HOME ARCHIVE`

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use emberbox_image::{BuildDir, Home, layer_of_changes};

#[expect(clippy::print_stdout, reason = "its answer")]
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: pack HOME ARCHIVE";
    let (home, archive) = (args.next().context(usage)?, args.next().context(usage)?);
    let home = Home::open(home)?;
    let build = BuildDir::create(&home, "pack")?;
    let archive =
        File::open(&archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let began = Instant::now();
    let layer = layer_of_changes(&home, &build, archive)?;
    println!("{} {}", began.elapsed().as_micros(), layer.bytes);
    Ok(())
}
