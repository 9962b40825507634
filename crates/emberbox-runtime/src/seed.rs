//! How an identity-free memory snapshot is taken.
//!
//! ```text
//! cold boot ─▶ agent answers ─▶ app, warm up ─▶ pause ─▶ save ─▶ stop
//! ```
//!
//! Invariants: the guest is never claimed, so the seed holds no token, name,
//! environment or user data; a failure leaves no VM and no file.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use emberbox_guest::client::{ClientError, GuestClient};
use emberbox_guest::{App, Token};
use tokio::time::Instant;

use crate::disk;
use crate::engine::{BootPurpose, Engine, EngineError, SnapshotFiles, Vm, VmSpec};
use crate::net::Dialer;

/// How long a cold boot may take until the agent answers. Software emulation
/// needs 5 s on an idle machine; a loaded one many times that.
pub const COLD_BOOT: Duration = Duration::from_secs(120);

/// The files of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFiles {
    /// Memory and devices.
    pub snapshot: SnapshotFiles,
    /// The scratch disk at the same moment.
    pub scratch: PathBuf,
}

impl SeedFiles {
    /// The usual names in a directory.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        let snapshot = SnapshotFiles {
            memory: dir.join("memory"),
            state: dir.join("state"),
        };
        Self {
            snapshot,
            scratch: dir.join("scratch.ext4"),
        }
    }

    fn each(&self) -> [&Path; 3] {
        [&self.snapshot.memory, &self.snapshot.state, &self.scratch]
    }
}

/// Why no seed could be taken.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The engine could not do its part.
    #[error("the engine could not take the seed")]
    Engine(#[from] EngineError),
    /// The guest did not come up or could not prepare itself.
    #[error("the guest could not be prepared")]
    Guest(#[from] ClientError),
    /// The files could not be put in place.
    #[error("the seed's files could not be put in place")]
    Files(#[from] io::Error),
}

/// Boots `spec`, prepares it, with its app running if it has one, and writes its seed into `files`, whose directory
/// must exist. The VM is gone afterwards;
/// the slot and the VM's directory are the caller's to remove.
pub async fn take(
    engine: &dyn Engine,
    spec: &VmSpec,
    app: Option<App>,
    files: &SeedFiles,
) -> Result<(), SeedError> {
    let taken = boot_and_save(engine, spec, app, files).await;
    if taken.is_err() {
        engine.reap(&spec.place).await?;
        for file in files.each() {
            // Only what was written is there.
            let _ = fs::remove_file(file);
        }
    }
    taken
}

async fn boot_and_save(
    engine: &dyn Engine,
    spec: &VmSpec,
    app: Option<App>,
    files: &SeedFiles,
) -> Result<(), SeedError> {
    let vm: Arc<dyn Vm> = engine.boot(spec, BootPurpose::Seed).await?;
    let guest = GuestClient::new(Dialer::new(Arc::clone(&spec.slot)), Token::UNCLAIMED);
    tokio::select! {
        pong = guest.wait_ready(Instant::now() + COLD_BOOT) => {
            pong?;
        }
        reason = vm.wait() => {
            let detail = format!("the guest ended while it booted: {reason:?}");
            return Err(EngineError::Start { detail }.into());
        }
    }
    guest.prepare_seed(app).await?;
    drop(guest);
    vm.pause().await?;
    vm.snapshot(&files.snapshot).await?;
    vm.stop().await?;
    disk::move_file(&spec.scratch, &files.scratch)?;
    for file in files.each() {
        seal(file)?;
    }
    Ok(())
}

/// A seed belongs to root and is never written again.
fn seal(file: &Path) -> io::Result<()> {
    chown(file, Some(0), Some(0))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o400))
}
