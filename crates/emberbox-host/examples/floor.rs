//! The floor of `cargo xtask bench create`: for every line on standard input,
//! restores the default seed by hand once and prints how many microseconds it
//! took from the VMM's start to the guest's first answer.
//!
//! Usage: `floor DATA_DIR`; images and seeds come from `EMBERBOX_HOME`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::path::PathBuf;

use emberbox_core::Shape;
use emberbox_host::{
    AcceleratorChoice, ArtifactsConfig, EngineChoice, Host, HostConfig, PoolConfig,
};
use emberbox_image::{BASE_TEMPLATE, Home};
use emberbox_runtime::jail::{Launcher, become_jail_if_asked};

fn main() -> Result<(), Box<dyn Error>> {
    become_jail_if_asked();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let data_dir = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: floor DATA_DIR")?;
    let config = HostConfig {
        data_dir,
        home: Home::open(Home::default_path())?,
        default_image: BASE_TEMPLATE.to_owned(),
        engine: EngineChoice {
            accelerator: AcceleratorChoice::Auto,
            ..EngineChoice::default()
        },
        launcher: Launcher::this_executable(),
        allowed_private: Vec::new(),
        slot_pool: 2,
        pool: PoolConfig::OFF,
        artifacts: ArtifactsConfig::default(),
    };
    let (host, _events) = Host::open(config).await?;
    for line in std::io::stdin().lines() {
        line?;
        let took = host.restore_bare(BASE_TEMPLATE, Shape::DEFAULT).await?;
        println!("{}", took.as_micros());
    }
    host.close().await;
    Ok(())
}
