//! The floor of `cargo xtask bench create`: for every line on standard input,
//! restores the default seed by hand once and prints how many microseconds it
//! took from the VMM's start to the guest's first answer.
//!
//! Usage: `floor DATA_DIR ENGINE PROBE_TIMEOUT_SEC`; images and seeds come from `EMBERBOX_HOME`.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use emberbox_core::Shape;
use emberbox_host::{
    ArtifactsConfig, EngineChoice, EngineKind, Host, HostConfig, PoolConfig, ProbeDeadline,
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
    let mut arguments = std::env::args().skip(1);
    let (Some(data_dir), Some(kind), Some(seconds)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: floor DATA_DIR ENGINE PROBE_TIMEOUT_SEC".into());
    };
    let kind = match kind.as_str() {
        "auto" => EngineKind::Auto,
        "qemu" => EngineKind::Qemu,
        "firecracker" => EngineKind::Firecracker,
        other => return Err(format!("no engine is called {other}").into()),
    };
    let config = HostConfig {
        data_dir: PathBuf::from(data_dir),
        home: Home::open(Home::default_path())?,
        default_image: BASE_TEMPLATE.to_owned(),
        engine: EngineChoice {
            kind,
            probe_deadline: ProbeDeadline(Duration::from_secs(seconds.parse()?)),
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
