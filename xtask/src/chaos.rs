//! The server under load while things are taken from it: SIGKILL for the
//! server, SIGKILL for VMMs, the last byte of the disk.
//!
//! ```text
//! round: load ─────────────────────────▶ look
//!            └─ harm ─▶ (start again) ─┘
//! ```
//!
//! After each round everything that the API says is held against what is
//! there: what it says is running runs, with its memory and its files; what is
//! lost says so, with an event; and the machine holds nothing more.

mod check;
mod load;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::demo::leak::{self, Owned};
use crate::demo::server::Server;
use crate::setup;
use load::{Sandbox, Worker};

/// Clients at work at the same time: more than the cores of a small machine.
const WORKERS: usize = 3;

/// How long a round's load lasts.
const ROUND: Duration = Duration::from_secs(3);

/// Size of the server's disk. It keeps 1 GiB free; the rest is enough for
/// every sandbox of the load.
const DISK: &str = "size=4g,mode=0711";

/// How to make it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many times something is taken away.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Repeats the choices of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
}

/// What is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Server,
    Vmm,
    Disk,
}

impl Harm {
    fn choose(random: &mut StdRng) -> Self {
        match random.random_range(0..5) {
            0 | 1 => Self::Server,
            2 | 3 => Self::Vmm,
            _ => Self::Disk,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Server => "server killed",
            Self::Vmm => "VMM killed",
            Self::Disk => "disk filled",
        }
    }
}

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    harms: BTreeMap<Harm, u32>,
    /// Operations that succeeded, by name.
    done: BTreeMap<&'static str, u64>,
    /// Refusals, by code.
    refused: BTreeMap<String, u64>,
    /// Sandboxes whose VMM was killed and that said so.
    lost: u32,
    /// Sandboxes that were looked at and were what they should be.
    proven: u64,
}

/// Sets up, then does it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let product = setup::run()?;
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("chaos: {} rounds, --seed {seed}", arguments.rounds);
    let disk = Disk::mount()?;
    let config = disk.path().join("emberbox.toml");
    fs::write(
        &config,
        "[limits]\nmax_sandboxes = 16\nrequests_per_minute = 0\n",
    )
    .context("cannot write the settings")?;
    let mut server = Server::new(&product, disk.path()).with_config(&config);
    let mut owned = Owned::default();
    let begun = Instant::now();
    let outcome = rounds(&mut server, &mut owned, arguments.rounds, seed, disk.path());
    if outcome.is_err() {
        server.show_log();
        println!(
            "again with: cargo xtask chaos --rounds {} --seed {seed}",
            arguments.rounds
        );
    }
    let counts = outcome?;
    let left = disk.path().join("data");
    server.stop()?;
    check::nothing_left(&left)?;
    disk.unmount()?;
    owned.check(&left)?;
    report(&counts, begun.elapsed());
    Ok(())
}

fn rounds(
    server: &mut Server,
    owned: &mut Owned,
    rounds: u32,
    seed: u64,
    disk: &Path,
) -> Result<Counts> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut counts = Counts::default();
    server.start()?;
    let mut workers: Vec<_> = (0..WORKERS)
        .map(|number| Worker::new(number, random.random()))
        .collect();
    for round in 1..=rounds {
        let harm = Harm::choose(&mut random);
        let moment = ROUND.mul_f64(random.random_range(0.1..0.9));
        *counts.harms.entry(harm).or_default() += 1;
        let killed = one_round(server, &mut workers, harm, moment, disk, &mut random)
            .with_context(|| format!("round {round}, {}", harm.name()))?;
        let looked = check::everything(server, &mut workers, killed, &mut counts);
        looked.with_context(|| format!("after round {round}, {}", harm.name()))?;
        if !leak::vmms(&server.data_dir())?.is_empty() {
            owned.observe(&server.data_dir())?;
        }
        println!(
            "round {round:>3}: {:<14} {}",
            harm.name(),
            summary(&workers)
        );
    }
    let api = server.api()?;
    for worker in &mut workers {
        for Sandbox { id, .. } in worker.sandboxes.drain(..) {
            api.destroy(&id)?;
        }
        worker.take_counts(&mut counts);
    }
    Ok(counts)
}

/// Load for a while, and one harm in it. Says how many VMMs were killed.
fn one_round(
    server: &mut Server,
    workers: &mut [Worker],
    harm: Harm,
    moment: Duration,
    disk: &Path,
    random: &mut StdRng,
) -> Result<u32> {
    let key = fs::read_to_string(server.key_file()).context("no bootstrap key was written")?;
    let address = server.data_dir().join("address");
    let begun = Instant::now();
    thread::scope(|scope| {
        let until = begun + ROUND;
        let running: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let (key, address) = (key.trim(), address.as_path());
                scope.spawn(move || worker.work(address, key, until))
            })
            .collect();
        thread::sleep(moment);
        let harmed = inflict(server, harm, disk, random);
        // The disk stays full until the load has met it.
        thread::sleep(until.saturating_duration_since(Instant::now()));
        let healed = match fs::remove_file(filler(disk)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        for worker in running {
            worker.join().expect("a worker does not panic")?;
        }
        healed.context("cannot free the disk")?;
        harmed
    })
}

fn inflict(server: &mut Server, harm: Harm, disk: &Path, random: &mut StdRng) -> Result<u32> {
    match harm {
        Harm::Server => {
            server.kill()?;
            server.start()?;
            Ok(0)
        }
        Harm::Vmm => {
            let vmms = leak::vmms(&server.data_dir())?;
            let Some(count) = u32::try_from(vmms.len()).ok().filter(|count| *count > 0) else {
                return Ok(0);
            };
            let victim = vmms[random.random_range(0..count) as usize];
            let victim = Pid::from_raw(victim).context("a process id is positive")?;
            match kill_process(victim, Signal::KILL) {
                Ok(()) => Ok(1),
                // Its sandbox was just destroyed.
                Err(rustix::io::Errno::SRCH) => Ok(0),
                Err(error) => Err(error).context("cannot kill a VMM"),
            }
        }
        Harm::Disk => {
            let file = File::create(filler(disk)).context("cannot fill the disk")?;
            let room = statvfs(disk).context("cannot look at the disk")?;
            let bytes = room.f_bavail * room.f_frsize;
            // What others take meanwhile is missing at the end: as full as it gets.
            let filled = fallocate(&file, FallocateFlags::empty(), 0, bytes);
            ensure!(
                matches!(filled, Ok(()) | Err(rustix::io::Errno::NOSPC)),
                "cannot fill the disk: {filled:?}"
            );
            Ok(0)
        }
    }
}

fn filler(disk: &Path) -> PathBuf {
    disk.join("filler")
}

fn summary(workers: &[Worker]) -> String {
    let sandboxes: usize = workers.iter().map(|worker| worker.sandboxes.len()).sum();
    format!("{sandboxes} sandboxes are what they should be")
}

fn report(counts: &Counts, took: Duration) {
    println!("taken away, in {:.0} s:", took.as_secs_f64());
    for (harm, count) in &counts.harms {
        println!("  {:<24} {count:>6}", harm.name());
    }
    println!("done meanwhile:");
    for (name, count) in &counts.done {
        println!("  {name:<24} {count:>6}");
    }
    println!("refused, each with its reason:");
    for (code, count) in &counts.refused {
        println!("  {code:<24} {count:>6}");
    }
    println!("{:<26} {:>6}", "proven to be as it was", counts.proven);
    println!("{:<26} {:>6}", "lost with its VMM, and so", counts.lost);
    println!("nothing is left over");
}

/// A small disk in memory for the server.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Result<Self> {
        // Not 0700: VMMs run as users of their own and reach files below.
        let directory = tempfile::Builder::new()
            .prefix("emberbox-chaos-")
            .permissions(fs::Permissions::from_mode(0o711))
            .tempdir()
            .context("cannot make a directory")?;
        let options = std::ffi::CString::new(DISK).context("no NUL in it")?;
        mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            &*options,
        )
        .context("cannot mount a disk in memory")?;
        Ok(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn unmount(&self) -> Result<()> {
        unmount(self.0.path(), UnmountFlags::empty()).context("the disk is still in use")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure; otherwise it is unmounted already.
        let _gone = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}
