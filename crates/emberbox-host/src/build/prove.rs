//! An image is vouched for: its seed is taken, and what came of it is restored
//! twice and checked.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::time::Duration;

use emberbox_core::{BuildErrorCode, SandboxId, VmId};
use emberbox_guest::client::ClientError;
use emberbox_guest::{ExecSpec, ExitStatus, GuestError};
use emberbox_image::PublishedImage;
use tokio::time::{Instant, sleep, timeout};

use super::{BuildFailure, Work, shell};
use crate::host::{BootPath, CreateVm, HostError, Origin};

/// How long one check may take.
const CHECK: Duration = Duration::from_secs(60);

/// How long a restored app may take until it is ready again: it was when it
/// was saved, and a machine under load is slow to reach it.
const READY_AGAIN: Duration = Duration::from_secs(60);

/// Pause between two tries of a check.
const PAUSE: Duration = Duration::from_millis(200);

/// Of a command's output, told when a check fails.
const LAST_WORDS: usize = 2048;

/// Says what must differ between two guests, a line each.
const IDENTITY: &str = "cat /etc/machine-id; hostname; \
    head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid";

/// What [`IDENTITY`] says, in order.
const DIFFERENT: [&str; 4] = ["machine id", "host name", "entropy", "random numbers"];

impl Work {
    /// Takes the seed of the image's own shape.
    pub(super) async fn snapshot(&self, image: &PublishedImage) -> Result<(), BuildFailure> {
        let images = self.host.images(&image.name);
        let images = images.map_err(|error| BuildFailure::internal("find its image", &error))?;
        let seeds = &self.host.parts.seeds;
        let taken = seeds.ensure_unless(&images, self.spec.shape(), &self.cancel);
        match taken.await {
            Ok(_seed) => Ok(()),
            Err(_) if self.cancel.is_cancelled() => Err(BuildFailure::cancelled()),
            Err(error) => {
                let why = guests_word(&error)
                    .unwrap_or_else(|| "the image did not boot into a state to save".to_owned());
                tracing::info!(
                    image = image.name,
                    error = crate::actor::report(&error),
                    "no seed"
                );
                Err(BuildFailure::new(BuildErrorCode::SnapshotFailed, why))
            }
        }
    }

    /// Restores the image twice and checks both.
    pub(super) async fn certify(&self, image: &PublishedImage) -> Result<(), BuildFailure> {
        let vms = [VmId::generate(), VmId::generate()];
        let checked = self.unless_cancelled(self.check(image, &vms)).await;
        for vm in &vms {
            if let Err(error) = self.host.destroy(vm).await {
                let error = crate::actor::report(&error);
                tracing::error!(%vm, error, "a VM that was checked cannot be removed");
            }
        }
        checked
    }

    async fn check(&self, image: &PublishedImage, vms: &[VmId; 2]) -> Result<(), BuildFailure> {
        let mut said = Vec::new();
        for vm in vms {
            let created = self.host.create(CreateVm {
                vm: vm.clone(),
                sandbox: SandboxId::generate(),
                party: image.name.clone(),
                image: image.name.clone(),
                shape: self.spec.shape(),
                env: BTreeMap::new(),
                origin: Origin::Image,
            });
            let created = created.await;
            let created = created.map_err(|error| failed("restore", &error.to_string()))?;
            if created.boot_path != BootPath::Snapshot {
                return Err(failed("restore", "the seed could not be restored"));
            }
            said.push(self.say_in(vm, "exec", IDENTITY.to_owned()).await?);
            self.check_app(vm).await?;
        }
        let lines = said[0].lines().zip(said[1].lines());
        let mut same = lines
            .zip(DIFFERENT)
            .filter(|((first, second), _)| first == second);
        if let Some((_, what)) = same.next() {
            let why = format!("two restores have the same {what}");
            return Err(failed("independence", &why));
        }
        Ok(())
    }

    async fn check_app(&self, vm: &VmId) -> Result<(), BuildFailure> {
        if self.spec.start_cmd.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + READY_AGAIN;
        if let Some(ready) = &self.spec.ready_cmd {
            let command = shell::as_user(&self.spec.user, &self.spec.workdir, ready);
            while let Err(failure) = self.say_in(vm, "readyCmd", command.clone()).await {
                if Instant::now() > deadline {
                    return Err(failure);
                }
                sleep(PAUSE).await;
            }
        }
        if let Some(port) = self.spec.preview_port {
            loop {
                let dialled = timeout(CHECK, self.host.dial(vm, port)).await;
                let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                match dialled {
                    Ok(_stream) => break,
                    Err(error) if Instant::now() > deadline => {
                        let why = format!("nothing answers on port {port}: {error}");
                        return Err(failed("previewPort", &why));
                    }
                    Err(_) => sleep(PAUSE).await,
                }
            }
        }
        Ok(())
    }

    /// What a command says that has to work.
    async fn say_in(
        &self,
        vm: &VmId,
        check: &str,
        command: String,
    ) -> Result<String, BuildFailure> {
        let run = async {
            let guest = self.host.guest(vm).map_err(|error| error.to_string())?;
            let spec = ExecSpec {
                command,
                cwd: "/".to_owned(),
                timeout_ms: u64::try_from(CHECK.as_millis()).unwrap_or(u64::MAX),
                ..ExecSpec::default()
            };
            let call = guest.exec(spec).await.map_err(|error| error.to_string())?;
            let output = call.collect(LAST_WORDS).await;
            output.map_err(|error| error.to_string())
        };
        let output = run.await.map_err(|error| failed(check, &error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status {
            ExitStatus::Code(0) => Ok(text(&output.stdout)),
            ended => {
                let said = text(&output.stdout) + &text(&output.stderr);
                let why = format!("it ended with {ended:?} and said: {}", said.trim());
                Err(failed(check, &why))
            }
        }
    }
}

fn failed(check: &str, why: &str) -> BuildFailure {
    let message = format!("the check {check:?} failed: {why}");
    BuildFailure::new(BuildErrorCode::CertificationFailed, message)
}

/// What the guest itself said about why it failed: its author's to know.
fn guests_word(error: &HostError) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(ClientError::Guest(GuestError { message, .. })) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}
