//! Paths of guests' files, as requests name them. Pure; `fuzz/` runs it alone.

use percent_encoding::percent_decode_str;

/// Longest path: Linux takes no longer one (`PATH_MAX`, its NUL included).
pub(crate) const PATH_MAX: usize = 4095;

/// Why something names no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathError {
    /// Its bytes are not UTF-8.
    NotUtf8,
    /// The guest's kernel could not take it.
    Illegal,
}

/// Whether the guest's kernel could take this path.
pub(crate) fn is_legal_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= PATH_MAX && !path.contains('\0')
}

/// The file a URL names: everything after `/files/`, decoded once, with the
/// leading slash that clients strip.
pub(crate) fn of_url(url_path: &str) -> Result<String, PathError> {
    let (_, encoded) = url_path.split_once("/files/").unwrap_or_default();
    let decoded = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| PathError::NotUtf8)?;
    let path = format!("/{}", decoded.trim_start_matches('/'));
    match is_legal_path(&path) {
        true => Ok(path),
        false => Err(PathError::Illegal),
    }
}
