//! What every engine must pass, as functions over [`Engine`].
//!
//! An engine's test only builds a [`Fixture`] and runs [`SUITE`]; so the
//! checks are the same for all of them, and run inside the nested rig too.
//!
//! Invariant: each check removes all it made, and fails if something is left.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use emberbox_core::{Shape, VmId};
use emberbox_guest::client::{ClientError, ExecOutput, GuestClient};
use emberbox_guest::{ExecSpec, ExitStatus, Identity, Token};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::cgroup::CgroupTree;
use crate::engine::{BootImages, Engine, ExitReason, Vm, VmPlace, VmSpec};
use crate::net::{Dialer, SlotPool};
use crate::seed::{self, COLD_BOOT, SeedFiles};

mod capability;
mod checkpoint;
mod isolation;
mod life;
mod limit;
mod restore;
mod standby;

/// The outcome of a check.
pub type Outcome = Result<(), Failure>;

/// Why a check failed, for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Any error is a failure, with its whole chain.
fn failed(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Failure(text)
}

/// A check as the suite holds it.
pub type Check = for<'a> fn(&'a Fixture) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

macro_rules! suite {
    ($($module:ident :: $check:ident),* $(,)?) => {
        /// Every check with its name.
        pub const SUITE: &[(&str, Check)] =
            &[$((concat!(stringify!($module), "::", stringify!($check)), |fixture| {
                Box::pin($module::$check(fixture))
            })),*];
    };
}

suite![
    life::boots_and_answers,
    life::starts_once,
    life::stops_idempotently,
    life::killed_while_booting_leaves_nothing,
    life::abandoned_at_each_stage_leaves_nothing,
    life::a_failed_start_leaves_nothing,
    life::is_adopted_by_another_engine,
    life::tells_why_it_ended,
    restore::two_restores_are_independent,
    restore::a_restored_guest_has_the_right_clock,
    restore::a_seed_holds_no_identity,
    restore::a_seed_cannot_be_written_by_its_vms,
    limit::the_disk_is_bounded,
    limit::the_memory_is_bounded,
    isolation::the_vmm_is_jailed,
    isolation::guests_reach_nothing_they_must_not,
    isolation::guests_reach_the_outside_and_dns,
    isolation::an_unclaimed_guest_runs_nothing,
    checkpoint::brings_back_memory_disk_and_processes,
    checkpoint::of_a_cold_boot_comes_back,
    checkpoint::follows_a_checkpoint_and_another_engine,
    checkpoint::two_restores_are_independent,
    checkpoint::stands_still_until_it_is_let_go,
    checkpoint::a_new_life_has_its_own_identity,
    checkpoint::old_connections_are_reset,
    checkpoint::a_failed_one_leaves_nothing,
    standby::becomes_the_vm_that_is_restored,
    standby::ends_when_nobody_wants_it,
    capability::what_is_declared_works,
    capability::what_is_not_declared_says_so,
];

/// Makes an empty scratch disk of some MiB.
pub type MakeScratch = fn(&Path, u32) -> std::io::Result<()>;

/// What the checks run on.
pub struct Fixture {
    /// The engine under test.
    pub engine: Arc<dyn Engine>,
    /// The same engine as another process of the host would have it.
    pub again: Arc<dyn Engine>,
    /// Where slots come from.
    pub slots: Arc<SlotPool>,
    /// What is booted.
    pub images: BootImages,
    /// Makes scratch disks.
    pub make_scratch: MakeScratch,
    /// A directory for VMs and seeds.
    pub dir: PathBuf,
    /// The engine's cgroups.
    pub cgroups: CgroupTree,
    /// Servers guests try to reach.
    pub outside: Outside,
    /// The seed the checks share; empty at first.
    pub seed: OnceCell<SeedFiles>,
}

/// The shape the checks use: small, so that they are quick.
const SHAPE: Shape = Shape {
    vcpus: 1,
    memory_mib: 512,
    disk_mib: 256,
};

/// How long a restored guest may take to answer.
const RESTORED: Duration = Duration::from_secs(60);

impl Fixture {
    /// A VM that is not started yet.
    async fn plan(&self) -> Result<VmSpec, Failure> {
        let id = VmId::generate();
        let dir = self.dir.join(id.as_str());
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let slot = self.slots.take().await.map_err(failed)?;
        Ok(VmSpec {
            scratch: dir.join("scratch.ext4"),
            place: VmPlace { id, dir },
            shape: SHAPE,
            images: self.images.clone(),
            slot,
        })
    }

    /// The seed all checks share.
    async fn seed(&self) -> Result<&SeedFiles, Failure> {
        self.seed
            .get_or_try_init(|| async {
                let dir = self.dir.join("seed");
                std::fs::create_dir_all(&dir).map_err(failed)?;
                let spec = self.plan().await?;
                (self.make_scratch)(&spec.scratch, SHAPE.disk_mib).map_err(failed)?;
                let files = SeedFiles::in_dir(&dir);
                let taken = seed::take(&*self.engine, &spec, None, &files)
                    .await
                    .map_err(failed);
                self.remove(&spec).await?;
                taken.map(|()| files)
            })
            .await
    }

    /// A VM that was just restored from the seed.
    async fn restore_seed(&self) -> Result<(VmSpec, Arc<dyn Vm>), Failure> {
        let spec = self.plan().await?;
        let vm = self.restore_as(&spec).await?;
        Ok((spec, vm))
    }

    async fn restore_as(&self, spec: &VmSpec) -> Result<Arc<dyn Vm>, Failure> {
        let seed = self.seed().await?.clone();
        crate::disk::clone(&seed.scratch, &spec.scratch).map_err(failed)?;
        self.engine
            .restore(spec, &seed.snapshot)
            .await
            .map_err(failed)
    }

    /// A VM restored from the seed that answers and is not claimed.
    async fn unclaimed(&self) -> Result<(VmSpec, Arc<dyn Vm>, GuestClient), Failure> {
        let (spec, vm) = self.restore_seed().await?;
        let client = GuestClient::new(Dialer::new(Arc::clone(&spec.slot)), Token::UNCLAIMED);
        answers(&*vm, &client, RESTORED).await?;
        Ok((spec, vm, client))
    }

    /// A VM restored from the seed and claimed under `name`.
    async fn restored(&self, name: &str) -> Result<Guest, Failure> {
        let (spec, vm) = self.restore_seed().await?;
        self.claim(spec, vm, name, RESTORED).await
    }

    /// A VM booted cold and claimed under `name`.
    async fn booted(&self, name: &str) -> Result<Guest, Failure> {
        let spec = self.plan().await?;
        (self.make_scratch)(&spec.scratch, SHAPE.disk_mib).map_err(failed)?;
        let vm = self
            .engine
            .boot(&spec, crate::BootPurpose::Run)
            .await
            .map_err(failed)?;
        self.claim(spec, vm, name, COLD_BOOT).await
    }

    async fn claim(
        &self,
        spec: VmSpec,
        vm: Arc<dyn Vm>,
        name: &str,
        patience: Duration,
    ) -> Result<Guest, Failure> {
        let token = next_token();
        let client = GuestClient::new(Dialer::new(Arc::clone(&spec.slot)), token.clone());
        answers(&*vm, &client, patience).await?;
        client
            .claim(identity(name, token.clone(), spec.slot.mtu()))
            .await
            .map_err(failed)?;
        Ok(Guest {
            spec,
            vm,
            client,
            token,
        })
    }

    /// Ends a guest and checks that nothing of it is left.
    async fn end(&self, guest: Guest) -> Outcome {
        guest.vm.stop().await.map_err(failed)?;
        self.remove(&guest.spec).await
    }

    /// Removes what is left of a VM in any state and checks that nothing is.
    async fn remove(&self, spec: &VmSpec) -> Outcome {
        self.engine.reap(&spec.place).await.map_err(failed)?;
        let left = self.cgroups.processes(&spec.place.id);
        check(left.is_empty(), || format!("processes {left:?} are left"))?;
        check(!self.cgroups.exists(&spec.place.id), || {
            "a cgroup is left".to_owned()
        })?;
        let adopted = self.engine.adopt(&spec.place).await.map_err(failed)?;
        check(adopted.is_none(), || {
            "a VM that was reaped is adopted".to_owned()
        })?;
        self.slots.discard(&spec.slot).await.map_err(failed)?;
        std::fs::remove_dir_all(&spec.place.dir).map_err(failed)
    }
}

/// The servers guests try to reach.
pub struct Outside {
    /// On the host itself: no guest may reach it.
    pub host_service: std::net::SocketAddr,
    /// Outside: sends one line to whoever connects.
    pub outside_service: std::net::SocketAddr,
    /// Outside: sends one line to whoever connects and keeps the connection.
    pub silent_service: std::net::SocketAddr,
    /// A name the upstream resolver answers with the outside server's address.
    pub outside_name: String,
}

/// A claimed guest.
struct Guest {
    spec: VmSpec,
    vm: Arc<dyn Vm>,
    client: GuestClient,
    token: Token,
}

impl Guest {
    /// Runs a command to its end.
    async fn run(&self, command: &str) -> Result<ExecOutput, ClientError> {
        /// Commands of the checks finish in seconds even on a loaded machine.
        const TIMEOUT_MS: u64 = 120_000;
        /// None of them says more.
        const OUTPUT: usize = 1 << 20;
        let spec = ExecSpec {
            command: command.to_owned(),
            cwd: "/".to_owned(),
            env: Vec::new(),
            timeout_ms: TIMEOUT_MS,
            stdin: false,
        };
        self.client.exec(spec).await?.collect(OUTPUT).await
    }

    /// Runs a command that must succeed; its stdout without the last newline.
    async fn say(&self, command: &str) -> Result<String, Failure> {
        let output = self.run(command).await.map_err(failed)?;
        if output.status != ExitStatus::Code(0) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(Failure(format!(
                "`{command}`: {:?}: {stderr}",
                output.status
            )));
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Runs a command that must fail.
    async fn refuses(&self, command: &str) -> Outcome {
        let output = self.run(command).await.map_err(failed)?;
        check(output.status != ExitStatus::Code(0), || {
            format!("`{command}` succeeded")
        })
    }
}

/// Waits for a guest's first answer; its early end is a failure at once.
async fn answers(vm: &dyn Vm, client: &GuestClient, patience: Duration) -> Outcome {
    tokio::select! {
        pong = client.wait_ready(Instant::now() + patience) => pong.map(drop).map_err(failed),
        reason = vm.wait() => Err(Failure(format!("the guest ended: {reason:?}"))),
    }
}

fn next_token() -> Token {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Token::new(bytes)
}

fn identity(name: &str, token: Token, mtu: u16) -> Identity {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(0));
    // Only a test: what matters is that two identities differ.
    let mut machine_id = [0; 16];
    let mut entropy = [0; 32];
    machine_id[..8].copy_from_slice(&now.to_be_bytes());
    entropy[..8].copy_from_slice(&now.to_be_bytes());
    Identity {
        token,
        hostname: name.to_owned(),
        machine_id,
        env: vec![("SANDBOX_NAME".to_owned(), name.to_owned())],
        unix_time_ns: now,
        entropy,
        mtu,
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Failure(otherwise()))
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, other: &T) -> Outcome {
    check(one != other, || {
        format!("both guests have the same {what}: {one:?}")
    })
}

async fn ended_within(vm: &dyn Vm, patience: Duration) -> Result<ExitReason, Failure> {
    let ended = tokio::time::timeout(patience, vm.wait()).await;
    ended.map_err(|_elapsed| Failure::new("the VM did not end"))
}
