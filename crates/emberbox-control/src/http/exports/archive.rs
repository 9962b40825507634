//! Files of a guest as a `tar.gz` that the guest's own `tar` makes.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use emberbox_api::ErrorCode;
use emberbox_guest::client::{ExecCall, ExecEvent, GuestClient};
use emberbox_guest::{ExecSpec, ExitStatus, OutputStream};
use futures_util::stream::{Stream, unfold};

use crate::Failure;

/// Longest an archive may take: a full disk through a slow connection.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// What `tar` exits with when a file changed while it was read.
const CHANGED: i32 = 1;

/// Bytes of `tar`'s complaints that are shown.
const COMPLAINT_MAX: usize = 1024;

/// The archive's bytes as they come. Errors before the first byte are answers;
/// later ones break the connection, so that nobody takes a part for the whole.
/// Dropping the stream ends `tar`.
pub(super) async fn pack(
    guest: &GuestClient,
    paths: &[String],
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, Failure> {
    let spec = ExecSpec {
        command: command(paths),
        cwd: "/".to_owned(),
        env: Vec::new(),
        timeout_ms: u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        stdin: false,
    };
    let mut packing = Packing {
        call: guest.exec(spec).await?,
        complaint: Vec::new(),
    };
    let first = packing.next().await?;
    Ok(unfold(Some((packing, first)), |state| async {
        let (mut packing, now) = state?;
        let piece = now?;
        match packing.next().await {
            Ok(next) => Some((Ok(piece), Some((packing, next)))),
            Err(failure) => Some((Err(io::Error::other(failure)), None)),
        }
    }))
}

/// Not past mounts: `/` is the disk, not `/proc`.
fn command(paths: &[String]) -> String {
    let mut command = "exec tar -czf - --one-file-system --".to_owned();
    for path in paths {
        let below = path.trim_start_matches('/');
        // A name of its own may begin with a dash; `./` says it is none.
        command.push_str(" './");
        command.push_str(&below.replace('\'', "'\\''"));
        command.push('\'');
    }
    command
}

struct Packing {
    call: ExecCall,
    complaint: Vec<u8>,
}

impl Packing {
    /// The next bytes; none at the end of a whole archive.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.call.next().await? {
                ExecEvent::Output(OutputStream::Stdout, data) if !data.is_empty() => {
                    return Ok(Some(data));
                }
                ExecEvent::Output(OutputStream::Stdout, _) => {}
                ExecEvent::Output(OutputStream::Stderr, data) => {
                    let room = COMPLAINT_MAX - self.complaint.len();
                    self.complaint.extend(data.iter().take(room));
                }
                ExecEvent::Exited(ExitStatus::Code(0 | CHANGED)) => return Ok(None),
                ExecEvent::Exited(_) => {
                    let why = String::from_utf8_lossy(&self.complaint);
                    let message = format!("the archive could not be made: {}", why.trim());
                    return Err(Failure::new(ErrorCode::ExecFailed, message));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
