//! Running other programs, and where the workspace is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root, whatever directory the command was started in.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace's root")
        .to_owned()
}

/// The cargo that started us, in the workspace's root, as if it had been called
/// from a shell: it tells its children which package they are of, and there are
/// packages that are built anew whenever that changes, and all above them.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Says what is run, runs it with our own output, and fails unless it
/// succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Runs it quietly and returns its standard output; what it writes to standard
/// error passes through.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let line = line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {line}"))?;
    if !output.status.success() {
        bail!("{line}: {}", output.status);
    }
    Ok(output.stdout)
}

/// The command as one would type it in the workspace's root.
fn line(command: &Command) -> String {
    let root = root();
    let program = Path::new(command.get_program());
    // What lies elsewhere was found on the PATH, or is the cargo that runs us.
    let program = program
        .strip_prefix(&root)
        .unwrap_or(program.file_name().map_or(program, Path::new));
    std::iter::once(program)
        .chain(command.get_args().map(Path::new))
        .map(|part| {
            part.strip_prefix(&root)
                .unwrap_or(part)
                .display()
                .to_string()
        })
        .collect::<Vec<_>>()
        .join(" ")
}
