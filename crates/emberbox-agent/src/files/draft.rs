//! A file that does not stand under its name yet.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use emberbox_guest::{FileKind, GuestError, GuestErrorCode, WriteSpec};

use rand::TryRng;
use rand::rngs::SysRng;

use super::error::{check_path, failed};
use super::{exists, kind};

/// Links followed from the asked name to the file; the kernel's own number.
const LINKS: usize = 40;

/// What every temporary file's name begins with.
const TEMPORARY: &str = ".emberbox-";

/// Mode of a new file when none is asked for.
const NEW_FILE_MODE: u32 = 0o644;

/// Content on its way. Dropped before [`Draft::commit`], it takes its temporary
/// file and the directories made for it away again.
pub(super) struct Draft {
    file: File,
    asked: String,
    target: PathBuf,
    temporary: PathBuf,
    made: MadeDirectories,
    committed: bool,
}

impl Draft {
    /// Opens a temporary file beside the target, with the target's mode and
    /// owner if it exists.
    pub(super) fn create(spec: &WriteSpec) -> Result<Self, GuestError> {
        check_path(&spec.path)?;
        let error = |error: io::Error| failed("write", &spec.path, &error);
        if spec.path.ends_with(['/']) || spec.path.ends_with("/.") || spec.path.ends_with("/..") {
            return Err(is_a_directory(&spec.path));
        }
        let (target, existing) = resolve(Path::new(&spec.path)).map_err(error)?;
        match existing.as_ref().map(kind) {
            None | Some(FileKind::File) => {}
            Some(FileKind::Directory) => return Err(is_a_directory(&spec.path)),
            Some(FileKind::Symlink | FileKind::Other) => {
                return Err(GuestError::new(
                    GuestErrorCode::Unsupported,
                    format_args!("{} is neither a file nor a directory", spec.path),
                ));
            }
        }
        let directory = target
            .parent()
            .ok_or_else(|| is_a_directory(&spec.path))?
            .to_owned();
        let temporary = directory.join(temporary_name().map_err(error)?);
        let (made, file) = open_in_its_directory(&directory, &temporary).map_err(error)?;
        let draft = Self {
            file,
            asked: spec.path.clone(),
            target,
            temporary,
            made,
            committed: false,
        };
        if let Some(old) = &existing {
            fchown(&draft.file, Some(old.uid()), Some(old.gid())).map_err(error)?;
        }
        let mode = spec
            .mode
            .or(existing.as_ref().map(MetadataExt::mode))
            .unwrap_or(NEW_FILE_MODE);
        draft
            .file
            .set_permissions(Permissions::from_mode(mode & 0o7777))
            .map_err(error)?;
        Ok(draft)
    }

    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), GuestError> {
        self.file
            .write_all(data)
            .map_err(|error| failed("write", &self.asked, &error))
    }

    /// Puts the file under its name.
    pub(super) fn commit(mut self) -> Result<(), GuestError> {
        fs::rename(&self.temporary, &self.target)
            .map_err(|error| failed("write", &self.asked, &error))?;
        self.committed = true;
        self.made.keep(&mut provisional());
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: the user may have removed it himself.
            let _ = fs::remove_file(&self.temporary);
            self.made.unmake(&mut provisional());
        }
    }
}

/// The file that a path means, and what stands there. A dangling link means
/// the file it names, as it does for a shell.
fn resolve(path: &Path) -> io::Result<(PathBuf, Option<fs::Metadata>)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((path, None)),
            Err(error) => return Err(error),
        };
        if !metadata.is_symlink() {
            return Ok((path, Some(metadata)));
        }
        let link = fs::read_link(&path)?;
        path = path.parent().unwrap_or(Path::new("/")).join(link);
    }
    Err(io::Error::from_raw_os_error(nix::libc::ELOOP))
}

/// Opens the temporary file, with the directories it needs. One at a time, and
/// none while another draft takes its directories away.
fn open_in_its_directory(
    directory: &Path,
    temporary: &Path,
) -> io::Result<(MadeDirectories, File)> {
    let mut provisional = provisional();
    let mut made = MadeDirectories::up_to(directory, &mut provisional)?;
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary);
    match opened {
        Ok(file) => Ok((made, file)),
        Err(error) => {
            made.unmake(&mut provisional);
            Err(error)
        }
    }
}

/// Directories that drafts made and in which none has put its file yet. Drafts
/// that overlap share them: the last to fail removes them, the first to
/// succeed keeps them.
type Provisional = BTreeSet<PathBuf>;

fn provisional() -> MutexGuard<'static, Provisional> {
    static PROVISIONAL: Mutex<Provisional> = Mutex::new(BTreeSet::new());
    PROVISIONAL.lock().expect("no panic while the set is held")
}

/// The directories that had to be made, topmost first.
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    fn up_to(directory: &Path, provisional: &mut Provisional) -> io::Result<Self> {
        let mut missing: Vec<_> = directory
            .ancestors()
            .take_while(|ancestor| !exists(ancestor) || provisional.contains(*ancestor))
            .map(Path::to_owned)
            .collect();
        missing.reverse();
        let mut made = Self(Vec::new());
        for path in missing {
            match DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => {
                    provisional.insert(path.clone());
                    made.0.push(path);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                    // Another draft's, or a command was faster.
                    if provisional.contains(&path) {
                        made.0.push(path);
                    }
                }
                Err(error) => {
                    made.unmake(provisional);
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// A file stands in them now.
    fn keep(&mut self, provisional: &mut Provisional) {
        for path in self.0.drain(..) {
            provisional.remove(&path);
        }
    }

    /// Removes those that are still empty; one that is not has another draft in
    /// it, which will, or something of the user's, which is not ours to judge.
    fn unmake(&mut self, provisional: &mut Provisional) {
        while let Some(path) = self.0.pop() {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => break,
                Ok(()) | Err(_) => {
                    provisional.remove(&path);
                }
            }
        }
    }
}

/// A name nobody can guess. Straight from the kernel: a generator in this
/// process would go on the same way in every restore of one seed.
fn temporary_name() -> io::Result<String> {
    let random = SysRng.try_next_u64().map_err(io::Error::other)?;
    Ok(format!("{TEMPORARY}{random:016x}"))
}

/// Whether a file of this name is a draft: nobody's but ours.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    let random = name
        .as_bytes()
        .strip_prefix(TEMPORARY.as_bytes())
        .unwrap_or_default();
    random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit)
}

fn is_a_directory(path: &str) -> GuestError {
    GuestError::new(
        GuestErrorCode::IsADirectory,
        format_args!("{path} is a directory"),
    )
}
