//! Sending the guest's files out as one archive.
//!
//! Everything but the agent is killed first, so nothing changes meanwhile. The
//! files of the guest's identity stay behind: they are a claim's to make.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use emberbox_guest::message::CHUNK;
use emberbox_guest::{Export, FromAgent, GuestError, GuestErrorCode};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::io::Errno;
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::connection::{Hangup, Outgoing};
use crate::system::{Machine, System};
use crate::{boot, identity};

/// Chunks that wait for the host: some for a disk that is slow to look through.
const WAITING: usize = 4;

/// Where the files are while they are read; gone before the end.
const MOUNT: &str = "/run/emberbox-export";

/// How long killed processes may take to be gone. They do nothing any more but
/// give their memory back.
const KILLED: Duration = Duration::from_secs(10);

/// Pause between two looks for killed processes.
const PAUSE: Duration = Duration::from_millis(5);

/// Most bytes of one file's names of attributes, and of one value: what Linux
/// allows.
const XATTR_BYTES: usize = 64 * 1024;

/// Answers an export.
pub(crate) async fn send(
    agent: &Arc<Agent>,
    outgoing: &mut Outgoing,
    export: Export,
) -> Result<(), Hangup> {
    let (sender, mut chunks) = mpsc::channel(WAITING);
    let agent = Arc::clone(agent);
    let work = tokio::task::spawn_blocking(move || write(&agent.system, export, sender));
    while let Some(data) = chunks.recv().await {
        outgoing.send(&FromAgent::Data(data)).await?;
    }
    let answer = match work.await.map_err(io::Error::other).flatten() {
        Ok(()) => FromAgent::End { truncated: false },
        Err(error) => FromAgent::Failed(GuestError::new(
            GuestErrorCode::Io,
            format_args!("cannot read the guest's files: {error}"),
        )),
    };
    outgoing.send(&answer).await
}

fn write(system: &System, export: Export, sender: mpsc::Sender<Bytes>) -> io::Result<()> {
    let chunks = BufWriter::with_capacity(CHUNK, Chunks(sender));
    match system.machine() {
        Machine::Own => {
            kill_others()?;
            let mounted = Mounted::new(export)?;
            archive(&mounted.files(export), chunks)
        }
        // Somebody else's processes and disks.
        Machine::Shared => archive(&system.path("/"), chunks),
    }
}

/// Files reached by a mount of their own: what else is mounted on top of them
/// does not show.
struct Mounted;

impl Mounted {
    fn new(export: Export) -> io::Result<Self> {
        fs::create_dir_all(MOUNT)?;
        match export {
            Export::Changes => boot::mount_scratch(MOUNT)?,
            Export::Everything => {
                let none = None::<&str>;
                mount(Some("/"), MOUNT, none, MsFlags::MS_BIND, none)?;
            }
        }
        Ok(Self)
    }

    fn files(&self, export: Export) -> PathBuf {
        let at = Path::new(MOUNT);
        match export {
            Export::Changes => at.join(boot::UPPER),
            Export::Everything => at.to_owned(),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The guest ends soon, and this with it.
        let _ = umount2(MOUNT, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(MOUNT);
    }
}

/// Kills every process but this one and pid 1, and waits until they are gone.
fn kill_others() -> io::Result<()> {
    let deadline = Instant::now() + KILLED;
    loop {
        // Kernel threads take it for an answer, so this never finds nobody.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        if !others()? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("processes do not end"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a process is left that could still write. Kernel threads and
/// processes that have ended have no command line.
fn others() -> io::Result<bool> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let ours = pid == 1 || pid == std::process::id();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !ours && !command.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Hands what is written to whoever sends it.
struct Chunks(mpsc::Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(CHUNK)];
        self.0
            .blocking_send(Bytes::copy_from_slice(bytes))
            .map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn archive(root: &Path, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    let mut linked = HashMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let mut names: Vec<_> = fs::read_dir(root.join(&directory))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let path = directory.join(name);
            if identity::FILES
                .iter()
                .any(|file| Path::new(file).strip_prefix("/") == Ok(&path))
            {
                continue;
            }
            let from = root.join(&path);
            let metadata = fs::symlink_metadata(&from)?;
            // They are somebody's who is not there any more.
            if metadata.file_type().is_socket() {
                continue;
            }
            if metadata.is_dir() {
                directories.push(path.clone());
            }
            append(&mut archive, &mut linked, &from, &path, &metadata)?;
        }
    }
    archive.into_inner()?.flush()
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    linked: &mut HashMap<(u64, u64), PathBuf>,
    from: &Path,
    path: &Path,
    metadata: &Metadata,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata(metadata);
    if metadata.nlink() > 1 && !metadata.is_dir() {
        let inode = (metadata.dev(), metadata.ino());
        if let Some(first) = linked.get(&inode) {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            return archive.append_link(&mut header, path, first);
        }
        linked.insert(inode, path.to_owned());
    }
    let xattrs = xattrs(from)?;
    if !xattrs.is_empty() {
        let records = xattrs.iter().map(|(name, value)| (&**name, &**value));
        archive.append_pax_extensions(records)?;
    }
    if metadata.is_symlink() {
        return archive.append_link(&mut header, path, fs::read_link(from)?);
    }
    if metadata.is_file() {
        // As many bytes as the header says, whatever happens to the file.
        let size = metadata.len();
        let content = File::open(from)?.chain(io::repeat(0)).take(size);
        return archive.append_data(&mut header, path, content);
    }
    archive.append_data(&mut header, path, io::empty())
}

/// Extended attributes, as records of an archive.
fn xattrs(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut buffer = vec![0; XATTR_BYTES];
    let names = match rustix::fs::llistxattr(path, &mut buffer) {
        Ok(length) => buffer[..length].to_vec(),
        Err(Errno::NOTSUP) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        // Linux takes any bytes, an archive's records do not.
        let Ok(text) = std::str::from_utf8(name) else {
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let name = std::ffi::OsStr::from_bytes(name);
        match rustix::fs::lgetxattr(path, name, &mut buffer) {
            Ok(length) => found.push((format!("SCHILY.xattr.{text}"), buffer[..length].to_vec())),
            // Only some file systems can tell all they list.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
