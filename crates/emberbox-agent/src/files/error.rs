//! What the kernel said, in the protocol's words.

use std::io;

use emberbox_guest::{GuestError, GuestErrorCode};
use nix::libc;

/// Longest path Linux takes, with its final NUL (`PATH_MAX`).
const PATH_BYTES: usize = 4096;

/// Whether a path can name anything at all.
pub(crate) fn check_path(path: &str) -> Result<(), GuestError> {
    let wrong = if path.is_empty() {
        "the path is empty"
    } else if path.contains('\0') {
        "the path has a NUL byte"
    } else if !path.starts_with('/') {
        "the path is not absolute"
    } else if path.len() >= PATH_BYTES {
        "the path is too long"
    } else {
        return Ok(());
    };
    Err(GuestError::new(GuestErrorCode::InvalidPath, wrong))
}

/// An answer for a failure with `path`.
pub(crate) fn failed(doing: &str, path: &str, error: &io::Error) -> GuestError {
    let code = classify(error);
    let message = match code {
        GuestErrorCode::NotFound => format!("{path} does not exist"),
        GuestErrorCode::IsADirectory => format!("{path} is a directory"),
        GuestErrorCode::NotADirectory => format!("a part of {path} is not a directory"),
        GuestErrorCode::NoSpace => format!("no space is left to {doing} {path}"),
        GuestErrorCode::PermissionDenied => format!("not permitted to {doing} {path}"),
        GuestErrorCode::InvalidPath
        | GuestErrorCode::Unsupported
        | GuestErrorCode::Io
        | GuestErrorCode::Unauthorized
        | GuestErrorCode::Unclaimed
        | GuestErrorCode::AlreadyClaimed
        | GuestErrorCode::Protocol
        | GuestErrorCode::TooLarge
        | GuestErrorCode::NoSuchCwd
        | GuestErrorCode::Spawn
        | GuestErrorCode::ConnectionRefused
        | GuestErrorCode::LimitReached
        | GuestErrorCode::NoSuchProcess
        | GuestErrorCode::ProcessEnded
        | GuestErrorCode::NoSuchTerminal => format!("cannot {doing} {path}: {error}"),
    };
    GuestError::new(code, message)
}

fn classify(error: &io::Error) -> GuestErrorCode {
    match error.raw_os_error() {
        Some(libc::ENOENT) => GuestErrorCode::NotFound,
        Some(libc::ENOTDIR | libc::EEXIST) => GuestErrorCode::NotADirectory,
        Some(libc::EISDIR) => GuestErrorCode::IsADirectory,
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => GuestErrorCode::PermissionDenied,
        Some(libc::ENOSPC | libc::EDQUOT) => GuestErrorCode::NoSpace,
        Some(libc::EFBIG) => GuestErrorCode::TooLarge,
        Some(libc::ENAMETOOLONG | libc::ELOOP | libc::EINVAL) => GuestErrorCode::InvalidPath,
        Some(libc::ENXIO | libc::ENODEV | libc::EOPNOTSUPP) => GuestErrorCode::Unsupported,
        Some(_) | None => GuestErrorCode::Io,
    }
}
