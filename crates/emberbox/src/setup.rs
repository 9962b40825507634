//! From installed packages to a machine whose first sandbox is restored from
//! a snapshot.

use anyhow::{Context, Result, bail};
use emberbox_core::Shape;
use emberbox_host::{Host, HostConfig, PoolConfig};
use emberbox_image::{EnsureRequest, Home, Progress};
use emberbox_runtime::jail::Launcher;

use crate::config::Config;
use crate::doctor::{self, Report};
use crate::progress::Steps;
use crate::serve::lock::DataDir;
use crate::{agent, cli};

/// What a sandbox boots when it names no template.
pub(crate) const DEFAULT_IMAGE: &str = emberbox_image::BASE_TEMPLATE;

/// Makes what is missing; quick when nothing is.
pub(crate) fn run(arguments: &cli::Setup) -> Result<()> {
    let config = Config::load(arguments.config.as_deref())?;
    let agent = agent::bytes()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;

    let before = Report::new(runtime.block_on(doctor::gather(&config))?);
    if let Some(install) = before.install {
        bail!("programs are missing; install them first:\n  {install}");
    }
    if !before.facts.root {
        bail!("only root can make guest images and VMs");
    }

    let steps = Steps::new();
    let home = Home::open(Home::default_path()).context("cannot open EMBERBOX_HOME")?;
    let request = EnsureRequest {
        template: DEFAULT_IMAGE,
        agent,
        kernel: &config.guest.kernel(),
        trust_host_ca: arguments.trust_host_ca || config.guest.trust_host_ca,
        refresh: arguments.refresh,
    };
    emberbox_image::ensure(&home, &request, &steps).context("cannot make the guest images")?;
    runtime.block_on(seed(&config, &home, &steps))?;
    drop(steps);
    eprintln!("{} is ready", home.root().display());
    Ok(())
}

/// Takes the seed of the default shape, on a host of its own that owns
/// nothing else. What a killed set-up left is found there by the next.
async fn seed(config: &Config, home: &Home, steps: &Steps) -> Result<()> {
    let data_dir = DataDir::open(&home.root().join("setup"))?;
    steps.step("finding out whether KVM works");
    let (host, _events) = Host::open(HostConfig {
        // One VM, one slot.
        slot_pool: 1,
        pool: PoolConfig::OFF,
        ..host_config(config, home.clone(), &data_dir)?
    })
    .await
    .context("cannot open the host")?;
    let taken = if host.seed_files(DEFAULT_IMAGE, Shape::DEFAULT).is_some() {
        Ok(())
    } else {
        steps.step("booting the template once and taking its seed");
        host.seed(DEFAULT_IMAGE, Shape::DEFAULT).await
    };
    host.close().await;
    taken.context("cannot take the seed")
}

/// How a host is set up for this configuration.
pub(crate) fn host_config(config: &Config, home: Home, data_dir: &DataDir) -> Result<HostConfig> {
    Ok(HostConfig {
        data_dir: data_dir.path().to_owned(),
        home,
        default_image: DEFAULT_IMAGE.to_owned(),
        engine: config.engine.choice(),
        launcher: Launcher::this_executable(),
        allowed_private: config
            .network
            .allowed_private
            .iter()
            .map(ToString::to_string)
            .collect(),
        slot_pool: config.network.pool_size,
        pool: config.pool.config(),
        artifacts: config.artifacts.config()?,
    })
}
