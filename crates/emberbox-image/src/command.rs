//! Child processes: what was started, how it ended, and its last words.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::error::ImageError;
use crate::requirement;

/// Lines of a failed program's standard error that are reported: apt and dpkg
/// need about ten to say what went wrong.
const STDERR_LINES: usize = 12;

/// Output of the small queries made here (`apt-cache`, `apt-config`) is a few
/// kilobytes; anything above this is not what was asked for.
const STDOUT_BYTES: u64 = 4 << 20;

/// Where programs are searched besides `PATH`, which lacks these for users
/// other than root.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/bin"];

/// The full path of `program`, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// A program about to be run: without input, in the C locale.
pub(crate) struct Run {
    name: String,
    command: Command,
}

impl Run {
    /// `program` must be one of [`requirement::requirements`].
    pub(crate) fn new(program: &str) -> Result<Self, ImageError> {
        let path = find(program).ok_or_else(|| ImageError::NoProgram {
            program: program.to_owned(),
            package: requirement::package_of(program),
        })?;
        let mut command = Command::new(path);
        command
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        Ok(Self {
            name: program.to_owned(),
            command,
        })
    }

    pub(crate) fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command.args(args);
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, dir: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs it to its end and returns its standard output.
    pub(crate) fn output(self) -> Result<String, ImageError> {
        self.watch(|_| {})
    }

    /// The same; `line` sees each line of its standard error as it is written.
    pub(crate) fn watch(mut self, mut line: impl FnMut(&str)) -> Result<String, ImageError> {
        let failed = |source| ImageError::Io {
            doing: format!("run {}", self.name),
            source,
        };
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let mut last = VecDeque::with_capacity(STDERR_LINES);
        let stdout = read_both(&mut child, |text| {
            line(text);
            if last.len() == STDERR_LINES {
                last.pop_front();
            }
            last.push_back(text.to_owned());
        });
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(ImageError::Child {
                program: self.name,
                status,
                stderr: Vec::from(last).join("\n"),
            });
        }
        Ok(stdout)
    }
}

/// Reads both pipes until they are closed; neither can block the child.
fn read_both(child: &mut Child, mut line: impl FnMut(&str)) -> String {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = stdout {
                // A pipe that breaks shows in the child's exit status.
                let _ = pipe.by_ref().take(STDOUT_BYTES).read_to_end(&mut bytes);
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            }
            bytes
        });
        if let Some(pipe) = stderr {
            let mut pipe = BufReader::new(pipe);
            let mut bytes = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
                let text = String::from_utf8_lossy(&bytes);
                let text = text.trim_end();
                if !text.is_empty() {
                    line(text);
                }
                bytes.clear();
            }
        }
        let bytes = reader.join().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
