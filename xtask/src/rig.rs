//! The nested rig: a Debian machine with a KVM that works, whatever this one
//! has. QEMU emulates it, its processor's virtualisation included; so what
//! runs in it is real to Firecracker, and slow.
//!
//! ```text
//! this machine                      the rig
//! workspace, read-only ──9p──────▶ the same path
//! EMBERBOX_HOME, read-only ──9p──▶ the same path, changes go to its own disk
//! a temporary directory ──9p─────▶ /rig: the command in, output and results out
//! sources, authorities ──copied──▶ the same paths
//! ```
//!
//! Invariant: nothing outlives the run but the cached image: its disk is a
//! snapshot, its machine ends with this process, and the directory of a run that
//! was killed goes with the next.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::root;
use crate::package::{self, Requirement};
use crate::{build, engine, patience};

mod image;

use image::Image;

/// Between looks whether the machine has ended.
const POLL: Duration = Duration::from_millis(100);

/// Programs of this machine that the tests in the rig are given, if the
/// environment names them.
const PROGRAMS: [&str; 3] = [
    "EMBERBOX_FIRECRACKER",
    "EMBERBOX_JAILER",
    "EMBERBOX_SECCOMP_FILTER",
];

/// What tests and benches in the rig are told as they are here.
const PASSED_ON: [&str; 4] = [
    "EMBERBOX_BIN",
    "EMBERBOX_REQUIRE_VMS",
    "EMBERBOX_LOG",
    "RUST_LOG",
];

/// What the images in the home were named after, besides what is in them: another
/// machine would make its own anew.
const IDENTITY: [&str; 4] = [
    "/etc/os-release",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/usr/local/share/ca-certificates",
];

/// A guest in an emulated machine boots in half a minute, on a busy one in
/// several.
const PROBE_TIMEOUT_SEC: u16 = 300;

/// For everything else that is waited for there.
const PATIENCE: u8 = 10;

/// The longest tag a 9p share may have is 31 bytes; these are ours.
const RUN_TAG: &str = "rig";
const WORKSPACE_TAG: &str = "workspace";
const HOME_TAG: &str = "home";
const PROGRAMS_TAG: &str = "programs";

/// What to run in the rig.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Memory of the rig, in MiB.
    #[arg(long, default_value_t = 4096)]
    memory_mib: u32,
    /// How long the command may take.
    #[arg(long, default_value_t = 3600)]
    timeout_sec: u64,
    /// Where the files go that the command leaves in /rig/results.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// The command, run by root in the workspace's root.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Runs a command in the rig; the answer is its exit code.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    package::install(&missing())?;
    let image = Image::ensure()?;
    let shared = Shared::prepare(arguments)?;
    let begun = Instant::now();
    let mut machine = Machine::start(arguments, &image, &shared)?;
    let deadline = begun + Duration::from_secs(arguments.timeout_sec);
    machine.wait(deadline, &mut shared.output())?;
    let code = shared.exit_code()?;
    if let Some(directory) = &arguments.results {
        shared.copy_results(directory)?;
    }
    eprintln!(
        "rig: exit code {code} after {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(ExitCode::from(code))
}

fn missing() -> Vec<Requirement> {
    let needed = [
        ("mmdebstrap", "mmdebstrap", "makes the rig's system"),
        ("mke2fs", "e2fsprogs", "makes the rig's disk"),
        (
            "qemu-system-x86_64",
            "qemu-system-x86",
            "emulates the rig's machine",
        ),
    ];
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|directory: PathBuf| directory.join(program).is_file())
    };
    needed
        .into_iter()
        .filter(|(program, ..)| !on_path(program))
        .map(|(program, package, why)| Requirement {
            program: program.to_owned(),
            package: package.to_owned(),
            why: why.to_owned(),
        })
        .collect()
}

/// What the rig is shown of this machine.
struct Shared {
    run: tempfile::TempDir,
    home: PathBuf,
    /// Programs from elsewhere, by the variable that names them.
    programs: Vec<(&'static str, PathBuf)>,
}

impl Shared {
    fn prepare(arguments: &Arguments) -> Result<Self> {
        sweep()?;
        let run = tempfile::Builder::new()
            .prefix(&format!("{RUN_PREFIX}{}-", std::process::id()))
            .tempdir()
            .context("cannot make the rig's directory")?;
        fs::create_dir(run.path().join("results"))?;
        fs::create_dir(run.path().join("programs"))?;
        copy_identity(&run.path().join("machine"))?;
        let home = std::env::var_os("EMBERBOX_HOME");
        let home = home.map_or_else(|| PathBuf::from("/var/lib/emberbox"), PathBuf::from);
        let mut programs = Vec::new();
        for variable in PROGRAMS {
            let Some(path) = std::env::var_os(variable) else {
                continue;
            };
            let name = variable.trim_start_matches("EMBERBOX_").to_lowercase();
            let copy = run.path().join("programs").join(&name);
            fs::copy(&path, copy)
                .with_context(|| format!("{variable} names {}", Path::new(&path).display()))?;
            programs.push((variable, PathBuf::from("/programs").join(name)));
        }
        let shared = Self {
            run,
            home,
            programs,
        };
        fs::write(shared.run.path().join("start"), shared.script(arguments)?)?;
        Ok(shared)
    }

    /// What the rig's first process runs once /rig is there.
    fn script(&self, arguments: &Arguments) -> Result<String> {
        let workspace = root();
        let quoted = |path: &Path| quote(path.as_os_str());
        let mut script = include_str!("rig/start.sh")
            .replace("@WORKSPACE@", &quoted(&workspace)?)
            .replace("@HOME@", &quoted(&self.home)?);
        let mut exports = format!("export EMBERBOX_HOME={}\n", quoted(&self.home)?);
        for (variable, path) in &self.programs {
            exports += &format!("export {variable}={}\n", quoted(path)?);
        }
        for variable in PASSED_ON {
            if let Some(value) = std::env::var_os(variable) {
                exports += &format!("export {variable}={}\n", quote(&value)?);
            }
        }
        // Nothing can be built there.
        let built = std::env::var_os("EMBERBOX_BIN").map(PathBuf::from);
        let built = built.unwrap_or_else(|| workspace.join("target/release/emberbox"));
        exports += &format!("export {}={}\n", build::BUILT, quoted(&built)?);
        exports += &format!("export {}={PROBE_TIMEOUT_SEC}\n", engine::PROBE_TIMEOUT);
        exports += &format!("export {}={PATIENCE}\n", patience::FACTOR);
        let words = arguments.command.iter().map(|word| quote(word));
        let words: Vec<_> = words.collect::<Result<_>>()?;
        script = script
            .replace("@EXPORTS@", &exports)
            .replace("@COMMAND@", &words.join(" "));
        Ok(script)
    }

    fn output(&self) -> Output {
        Output {
            path: self.run.path().join("output"),
            passed: 0,
        }
    }

    fn exit_code(&self) -> Result<u8> {
        let file = self.run.path().join("exit-code");
        match fs::read_to_string(file) {
            Ok(text) => text.trim().parse().context("the rig's exit code"),
            Err(_) => bail!(
                "the rig ended before its command did; its last words:\n{}",
                self.last_words()
            ),
        }
    }

    /// The end of its console.
    fn last_words(&self) -> String {
        /// A panic with its trace.
        const LINES: usize = 40;
        let console = fs::read(self.run.path().join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn copy_results(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(self.run.path().join("results"))? {
            let entry = entry?;
            fs::copy(entry.path(), directory.join(entry.file_name()))
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
        Ok(())
    }
}

/// What the command says: the file that it writes, and how far it was read.
struct Output {
    path: PathBuf,
    passed: u64,
}

impl Output {
    fn pass_on(&mut self) -> Result<()> {
        let Ok(mut file) = fs::File::open(&self.path) else {
            // The command has not begun.
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.passed))?;
        let mut stdout = io::stdout().lock();
        self.passed += io::copy(&mut file, &mut stdout)?;
        stdout.flush().context("cannot write")
    }
}

/// What the directories of runs are called, before the number of their process.
const RUN_PREFIX: &str = "emberbox-rig-";

/// Removes the directories of runs that were killed.
fn sweep() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(RUN_PREFIX));
        let Some((process, _)) = run.and_then(|run| run.split_once('-')) else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Copies what is there of [`IDENTITY`] into a new directory, below its own paths.
fn copy_identity(to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    let mut copy = Command::new("cp");
    copy.args([
        "--recursive",
        "--dereference",
        "--parents",
        "--target-directory",
    ]);
    copy.arg(to);
    copy.args(IDENTITY.iter().filter(|path| Path::new(path).exists()));
    let status = copy.status().context("cannot run cp")?;
    ensure!(
        status.success(),
        "cannot copy what this machine is: {status}"
    );
    Ok(())
}

/// For a POSIX shell.
fn quote(word: &std::ffi::OsStr) -> Result<String> {
    let word = word.to_str().context("the command is not UTF-8")?;
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// The emulated machine; it ends when dropped.
struct Machine(Child);

impl Machine {
    fn start(arguments: &Arguments, image: &Image, shared: &Shared) -> Result<Self> {
        ensure!(
            shared.home.is_dir(),
            "{} does not exist: run `cargo xtask setup`",
            shared.home.display()
        );
        let share = |tag: &str, path: &Path, access: &str| {
            format!(
                "local,path={},mount_tag={tag},security_model=none,multidevs=remap{access}",
                // QEMU's options end at a comma unless it is doubled.
                path.display().to_string().replace(',', ",,")
            )
        };
        let run = shared.run.path();
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=1024"])
            .args(["-cpu", "max,+svm,+npt", "-smp", "2", "-m"])
            .arg(format!("{}M", arguments.memory_mib))
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-no-reboot", "-kernel"])
            .arg(&image.kernel)
            .arg("-initrd")
            .arg(&image.initrd)
            .args(["-append", KERNEL_ARGUMENTS])
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,snapshot=on,cache=unsafe",
                image.disk.display()
            ))
            .arg("-virtfs")
            .arg(share(RUN_TAG, run, ""))
            .arg("-virtfs")
            .arg(share(PROGRAMS_TAG, &run.join("programs"), ",readonly=on"))
            .arg("-virtfs")
            .arg(share(WORKSPACE_TAG, &root(), ",readonly=on"))
            .arg("-virtfs")
            .arg(share(HOME_TAG, &shared.home, ",readonly=on"))
            .args(["-netdev", "user,id=net"])
            .args(["-device", "virtio-net-pci,netdev=net"])
            .args(["-object", "rng-random,id=entropy,filename=/dev/urandom"])
            .args(["-device", "virtio-rng-pci,rng=entropy"])
            .arg("-serial")
            .arg(format!("file:{}", run.join("console").display()))
            .stdin(Stdio::null())
            // Where its snapshot's blocks go.
            .env("TMPDIR", run);
        end_with_this_process(&mut command);
        let child = command.spawn().context("cannot run qemu-system-x86_64")?;
        Ok(Self(child))
    }

    /// Waits for its end and passes on what the command says meanwhile.
    fn wait(&mut self, deadline: Instant, output: &mut Output) -> Result<()> {
        loop {
            output.pass_on()?;
            if let Some(status) = self.0.try_wait().context("cannot wait for the rig")? {
                ensure!(status.success(), "the rig's machine ended: {status}");
                return output.pass_on();
            }
            if Instant::now() > deadline {
                bail!("the rig took longer than its --timeout-sec");
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rig's disk is its root, and its first process a script on it.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 root=/dev/vda rw init=/rig-init panic=-1 \
     mitigations=off net.ifnames=0 systemd.unified_cgroup_hierarchy=1";

/// However this process ends, the machine does, too.
fn end_with_this_process(command: &mut Command) {
    #[expect(
        unsafe_code,
        reason = "nothing else reaches a child before its program"
    )]
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .map_err(Into::into)
        });
    }
}
