//! Files of a sandbox.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use emberbox_api::{
    Data, ErrorCode, ErrorResponse, FileInfo, FileType, Listing, StatRequest, Time, UploadRequest,
    Uploaded,
};
use emberbox_guest::{Entry, FileKind, FileStat, ListSpec};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Target;
use super::json::{JsonBody, QueryString};
use crate::Failure;
use crate::control::Control;

pub(super) mod download;
mod json_parts;
mod many;
mod multipart_parts;
mod part;
mod path;
mod sink;
mod tree;
mod upload;
mod watch;

pub(super) use many::*;
pub(super) use path::is_legal_path;
use path::{PATH_MAX, PathError};
pub(super) use tree::*;
pub(super) use watch::*;

/// What a list without a path shows: where apps live.
const DEFAULT_DIR: &str = "/workspace";

/// Most entries of one listing: a few megabytes of JSON.
const ENTRIES_MAX: u32 = 10_000;

/// Deepest listing; deeper trees are searched with `find`.
const DEPTH_MAX: u32 = 16;

/// Standard base64, with or without its padding.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How `GET …/files` may be asked.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// An absolute path of a directory; `/workspace` when absent.
    path: Option<String>,
    /// How deep to look; 1 when absent.
    depth: Option<String>,
}

/// Upload a file, as JSON with base64 or as multipart/form-data with the
/// parts `path` and `file`
#[utoipa::path(post, path = "/sandboxes/{id}/files", tag = "files",
    params(("id" = String, Path, description = "Sandbox id")), request_body = UploadRequest,
    responses((status = 200, body = Data<Uploaded>), (status = 409, body = ErrorResponse),
        (status = 413, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn upload(
    State(control): State<Arc<Control>>,
    target: Target,
    request: Request,
) -> Result<Json<Data<Uploaded>>, Failure> {
    let (path, size) = upload::receive(&control, &target, request).await?;
    Ok(Json(Data {
        data: Uploaded {
            sandbox_id: target.record.id,
            path,
            size,
        },
    }))
}

/// Download a file
#[utoipa::path(get, path = "/sandboxes/{id}/files/{path}", tag = "files",
    params(("id" = String, Path, description = "Sandbox id"),
        ("path" = String, Path, description = "Path without its leading slash; other slashes encoded or not")),
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
pub(super) async fn download(
    State(control): State<Arc<Control>>,
    target: Target,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Failure> {
    let path = path::of_url(uri.path())?;
    let reader = control.guest(&target.record)?.read_file(&path).await?;
    let (length, body) = download::stream(reader).await?;
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

/// List a directory
#[utoipa::path(get, path = "/sandboxes/{id}/files", tag = "files",
    params(("id" = String, Path, description = "Sandbox id"), ListQuery),
    responses((status = 200, body = Data<Listing>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<ListQuery>,
) -> Result<Json<Data<Listing>>, Failure> {
    let path = query.path.unwrap_or_else(|| DEFAULT_DIR.to_owned());
    let path = check_path(path)?;
    let spec = ListSpec {
        path: path.clone(),
        depth: depth_or(query.depth.as_deref(), 1)?,
        limit: ENTRIES_MAX,
    };
    let (entries, truncated) = control.guest(&target.record)?.list(spec).await?;
    let mut entries: Vec<_> = entries.into_iter().map(show_entry).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Json(Data {
        data: Listing {
            path,
            entries,
            truncated,
        },
    }))
}

/// Stat a file or a directory
#[utoipa::path(post, path = "/sandboxes/{id}/files/stat", tag = "files",
    params(("id" = String, Path, description = "Sandbox id")), request_body = StatRequest,
    responses((status = 200, body = Data<FileInfo>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn stat(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<StatRequest>,
) -> Result<Json<Data<FileInfo>>, Failure> {
    let path = check_path(body.path)?;
    let stat = control.guest(&target.record)?.stat(&path).await?;
    Ok(Json(Data {
        data: show(file_name(&path), stat),
    }))
}

pub(super) fn check_path(path: String) -> Result<String, Failure> {
    if is_legal_path(&path) {
        return Ok(path);
    }
    Err(PathError::Illegal.into())
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        let message = match error {
            PathError::NotUtf8 => "path must be UTF-8".to_owned(),
            PathError::Illegal => {
                format!("path must be absolute, without NUL, and at most {PATH_MAX} bytes long")
            }
        };
        Self::new(ErrorCode::InvalidPath, message)
    }
}

fn depth_or(text: Option<&str>, default: u32) -> Result<u32, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(default);
    };
    let legal = text
        .parse()
        .ok()
        .filter(|depth| (1..=DEPTH_MAX).contains(depth));
    legal.ok_or_else(|| {
        Failure::invalid_field("depth", format!("must be between 1 and {DEPTH_MAX}"))
    })
}

fn show_entry(entry: Entry) -> FileInfo {
    show(entry.name, entry.stat)
}

fn show(name: String, stat: FileStat) -> FileInfo {
    FileInfo {
        name,
        is_dir: stat.kind == FileKind::Directory,
        kind: match stat.kind {
            FileKind::File => FileType::File,
            FileKind::Directory => FileType::Directory,
            FileKind::Symlink => FileType::Symlink,
            FileKind::Other => FileType::Other,
        },
        size: stat.size,
        mode: format!("{:04o}", stat.mode & 0o7777),
        uid: stat.uid,
        gid: stat.gid,
        modified_at: Time(modified(stat.modified_unix_ns)),
        path: stat.path,
    }
}

/// A guest may claim any time; one that no calendar holds becomes the epoch.
fn modified(unix_ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(unix_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn file_name(path: &str) -> String {
    let name = path.trim_end_matches('/').rsplit('/').next();
    name.filter(|name| !name.is_empty())
        .unwrap_or("/")
        .to_owned()
}

#[cfg(test)]
mod tests;
