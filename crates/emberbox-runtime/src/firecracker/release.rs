//! Which Firecracker is there, and whether it is one that this engine knows.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, ReadCache};

/// The releases whose API and snapshots this engine was written for.
const KNOWN: std::ops::RangeInclusive<Release> = Release::new(1, 13)..=Release::new(1, 17);

/// The first whose partial snapshots are right for memory of several slots,
/// which is more than 3 GiB on x86-64 (its pull request 5705).
const WHOLE_PARTIAL_SNAPSHOTS: Release = Release::new(1, 15);

/// The first that boots a bzImage (its pull request 6037).
const BOOTS_BZIMAGE: Release = Release::new(1, 17);

/// Major and minor number: what decides how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Whether it takes partial snapshots of a guest of so much memory.
    pub(super) fn takes_partial_snapshots(self, memory_mib: u32) -> bool {
        /// Where the second slot begins.
        const ONE_SLOT_MIB: u32 = 3 * 1024;
        self >= WHOLE_PARTIAL_SNAPSHOTS || memory_mib <= ONE_SLOT_MIB
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A version as the program says it, for example `1.16.1` or `1.17.0-dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    pub(super) release: Release,
}

/// A version that this engine does not know.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// It is none at all.
    #[error("{0:?} is not a version of Firecracker")]
    Unreadable(String),
    /// Too old or too new.
    #[error(
        "Firecracker {found} is not supported: install one of {} to {}",
        KNOWN.start(),
        KNOWN.end()
    )]
    Unknown {
        /// What it says of itself.
        found: String,
    },
}

/// An uncompressed kernel beside the compressed one, for older releases.
const PLAIN_KERNEL: &str = "vmlinux";

impl Version {
    /// The kernel in a form that this version boots; `Err` says what to do.
    pub(crate) fn kernel(&self, bzimage: &Path) -> Result<PathBuf, String> {
        if self.release >= BOOTS_BZIMAGE {
            return Ok(bzimage.to_owned());
        }
        let plain = bzimage.with_file_name(PLAIN_KERNEL);
        if plain.is_file() {
            return Ok(plain);
        }
        Err(format!(
            "Firecracker {self} boots no compressed kernel: install {BOOTS_BZIMAGE}, or put an \
             uncompressed one at {}",
            plain.display()
        ))
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let unreadable = || VersionError::Unreadable(text.to_owned());
        let mut numbers = text.trim_start_matches('v').split(['.', '-']);
        let mut number = || numbers.next()?.parse().ok();
        let (major, minor) = number().zip(number()).ok_or_else(unreadable)?;
        let release = Release { major, minor };
        let text = text.trim_start_matches('v').to_owned();
        if KNOWN.contains(&release) {
            Ok(Self { text, release })
        } else {
            Err(VersionError::Unknown { found: text })
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// Which one.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not one that this engine knows.
    #[error("{program} cannot be used")]
    Version {
        /// Which one.
        program: PathBuf,
        /// Why not.
        #[source]
        source: VersionError,
    },
    /// It needs libraries, and its jail has none.
    #[error(
        "{program} is dynamically linked, and its jail has no libraries: install a release of \
         Firecracker, which is static"
    )]
    Dynamic {
        /// Which one.
        program: PathBuf,
    },
    /// The two are not of one release.
    #[error(
        "{jailer} is version {jailer_version}, Firecracker is {firecracker_version}: \
         they must be the same; install both from one release"
    )]
    Differ {
        /// The jailer.
        jailer: PathBuf,
        /// Its version.
        jailer_version: Version,
        /// The other's.
        firecracker_version: Version,
    },
}

/// What a program says of its own version.
pub fn version(program: &Path) -> Result<Version, ProgramError> {
    let output = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ProgramError::Run {
            program: program.to_owned(),
            source,
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    // "Firecracker v1.16.1" or "Jailer v1.16.1" on the first line.
    let word = said.lines().next().unwrap_or_default();
    let word = word.split_whitespace().nth(1).unwrap_or(word);
    word.parse().map_err(|source| ProgramError::Version {
        program: program.to_owned(),
        source,
    })
}

/// Firecracker and, unless it was switched off, its jailer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The VMM. Statically linked: its jail has no libraries.
    pub firecracker: PathBuf,
    /// What confines it. `None` runs it as root, in a root and a namespace of
    /// its own but with all privileges.
    pub jailer: Option<PathBuf>,
}

/// Whether a Firecracker gets its jailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jailing {
    /// Always.
    On,
    /// It runs as root.
    Off,
}

/// Looks for them where `EMBERBOX_FIRECRACKER` and `EMBERBOX_JAILER` say, or
/// on the `PATH`. `Err` names what is missing.
pub fn find_programs(jailing: Jailing) -> Result<Programs, String> {
    Ok(Programs {
        firecracker: find("EMBERBOX_FIRECRACKER", "firecracker")?,
        jailer: match jailing {
            Jailing::On => Some(find("EMBERBOX_JAILER", "jailer")?),
            Jailing::Off => None,
        },
    })
}

fn find(variable: &str, name: &str) -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!(
                "{variable} names {}, which is no file: correct or unset it",
                path.display()
            ))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            format!("{name} is not installed: put it on the PATH, or name it in {variable}")
        })
}

impl Programs {
    /// Their common version.
    pub fn version(&self) -> Result<Version, ProgramError> {
        let firecracker = version(&self.firecracker)?;
        if let Some(jailer) = &self.jailer {
            let jailer_version = version(jailer)?;
            if jailer_version != firecracker {
                return Err(ProgramError::Differ {
                    jailer: jailer.clone(),
                    jailer_version,
                    firecracker_version: firecracker,
                });
            }
        }
        Ok(firecracker)
    }

    /// Refuses a Firecracker that could not run in its jail.
    pub fn check_static(&self) -> Result<(), ProgramError> {
        let program = || self.firecracker.clone();
        match needs_loader(&self.firecracker) {
            Ok(false) => Ok(()),
            Ok(true) => Err(ProgramError::Dynamic { program: program() }),
            Err(source) => Err(ProgramError::Run {
                program: program(),
                source,
            }),
        }
    }
}

/// Whether an ELF program names a loader for its libraries.
fn needs_loader(program: &Path) -> io::Result<bool> {
    let file = ReadCache::new(File::open(program)?);
    let elf = ElfFile64::<Endianness, _>::parse(&file).map_err(io::Error::other)?;
    let headers = elf.elf_program_headers();
    Ok(headers
        .iter()
        .any(|header| header.p_type(elf.endian()) == PT_INTERP))
}

#[cfg(test)]
mod tests;
