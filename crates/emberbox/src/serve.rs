//! How a server starts and ends.
//!
//! ```text
//! configuration ─▶ data directory's lock ─▶ store, first key ─▶ host: adopt
//! ─▶ control: reconcile ─▶ port ─▶ serve … SIGTERM ─▶ the same backwards
//! ```
//!
//! Invariants: nothing is opened before the configuration is known to be
//! good; the port is bound last, so who can connect is served; running
//! sandboxes outlive the server and are adopted by the next.

mod key_file;
pub(crate) mod lock;

use std::fs;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use emberbox_control::{Control, Scheme, Settings, Tls};
use emberbox_host::Host;
use emberbox_image::Home;
use emberbox_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{self, LogFormat};
use crate::config::Config;
use crate::output;
use crate::setup::host_config;
use key_file::{KeyFile, Start};
use lock::DataDir;

/// The database's name in the data directory.
const DATABASE: &str = "emberbox.db";
/// The key of terminals' tokens in the data directory.
const TERMINAL_KEY: &str = "terminal.key";
/// Where the bound address is told in the data directory.
const ADDRESS: &str = "address";

/// Serves until it is asked to end.
pub(crate) fn run(arguments: &cli::Serve) -> Result<()> {
    let config = Config::load(arguments.config.as_deref())?;
    log(arguments.log_format)?;
    let data_dir = DataDir::open(&arguments.data_dir)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?
        .block_on(serve(arguments, &config, &data_dir))
}

fn log(format: LogFormat) -> Result<()> {
    let filter = match std::env::var("EMBERBOX_LOG") {
        Ok(filter) => EnvFilter::try_new(filter).context("EMBERBOX_LOG is no log filter")?,
        Err(_) => EnvFilter::new("info"),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Pretty => log.init(),
    }
    Ok(())
}

async fn serve(arguments: &cli::Serve, config: &Config, data_dir: &DataDir) -> Result<()> {
    // Asked to end while it starts, it ends when it has started: half a start
    // is what the next one would have to repair.
    let asked_to_end = asked_to_end()?;
    let database = data_dir.path().join(DATABASE);
    let start = if database.exists() {
        Start::Later
    } else {
        Start::First
    };
    let key_file = KeyFile::prepare(&arguments.bootstrap_key_file, start)?;
    let store = Store::open(&database)
        .await
        .context("cannot open the database")?;
    key_file.fill(&store).await?;

    let home = Home::open(Home::default_path()).context("cannot open EMBERBOX_HOME")?;
    let (host, events) = Host::open(host_config(config, home, data_dir)?)
        .await
        .context("cannot open the host; `emberbox doctor` says what is missing")?;
    let settings = Settings {
        limits: config.limits.clone(),
        create_grace_ms: config.server.grace_ms(),
        preview: config.preview.clone(),
        billing: config.billing.clone(),
        builds: config.builds.clone(),
        terminal_key: Some(data_dir.path().join(TERMINAL_KEY)),
    };
    let control = Control::start(store.clone(), Arc::clone(&host), events, settings)
        .await
        .context("cannot start the control plane")?;

    let outcome = match Doors::open(arguments, config, data_dir).await {
        Ok(doors) => {
            control.listens_on(doors.preview_port);
            let told = tell(data_dir.path(), doors.address);
            if told.is_ok() {
                doors.serve(&control, asked_to_end).await;
                tracing::info!("ending; running sandboxes stay");
            }
            let _ = fs::remove_file(data_dir.path().join(ADDRESS));
            told
        }
        Err(error) => Err(error),
    };
    control.close().await;
    host.close().await;
    store.close().await;
    outcome
}

/// Where the server listens.
struct Doors {
    listener: TcpListener,
    address: SocketAddr,
    https: Option<(TcpListener, Tls)>,
    /// The port that previews are told under.
    preview_port: u16,
}

impl Doors {
    async fn open(arguments: &cli::Serve, config: &Config, data_dir: &DataDir) -> Result<Self> {
        let wanted = arguments.listen.unwrap_or(config.server.listen);
        let (listener, address) = listen(wanted).await?;
        let mut preview_port = address.port();
        let https = match config.https(data_dir.path()) {
            Some((wanted, source)) => {
                let tls = Tls::open(&source).context("cannot serve TLS")?;
                let (listener, address) = listen(wanted).await?;
                if config.preview.scheme == Scheme::Https {
                    preview_port = address.port();
                }
                tracing::info!(%address, "listening for TLS");
                Some((listener, tls))
            }
            None => None,
        };
        Ok(Self {
            listener,
            address,
            https,
            preview_port,
        })
    }

    async fn serve(self, control: &Arc<Control>, asked_to_end: impl Future<Output = ()>) {
        let router = emberbox_control::router(Arc::clone(control));
        let ending = CancellationToken::new();
        let https = async {
            if let Some((listener, tls)) = self.https {
                let shutdown = ending.clone().cancelled_owned();
                emberbox_control::serve_tls(listener, tls, router.clone(), shutdown).await;
            }
        };
        let shutdown = ending.clone().cancelled_owned();
        let http = emberbox_control::serve(self.listener, router.clone(), shutdown);
        let end = async {
            asked_to_end.await;
            ending.cancel();
        };
        tokio::join!(http, https, end);
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener
        .local_addr()
        .context("the listener has no address")?;
    Ok((listener, bound))
}

/// Says where it listens to whoever waits for it: the line on standard output
/// and, for those who cannot see that, a file that appears whole.
fn tell(data_dir: &Path, address: SocketAddr) -> Result<()> {
    let temporary = data_dir.join("address.tmp");
    fs::write(&temporary, format!("{address}\n"))
        .and_then(|()| fs::rename(&temporary, data_dir.join(ADDRESS)))
        .context("cannot write the address")?;
    output::line(format!("listening on http://{address}"))?;
    tracing::info!(%address, "listening");
    Ok(())
}

/// Resolves at the first SIGTERM or SIGINT. They are caught from now on.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let catch = |kind| signal(kind).context("cannot catch signals");
    let (mut term, mut int): (Signal, Signal) = (
        catch(SignalKind::terminate())?,
        catch(SignalKind::interrupt())?,
    );
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
