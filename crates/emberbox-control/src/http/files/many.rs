//! Many small files in one request.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use bytes::Bytes;
use emberbox_api::{
    Data, ErrorResponse, FailedFile, FieldError, FileToWrite, WriteMany, WrittenFile, WrittenMany,
};
use emberbox_guest::client::GuestClient;

use super::sink::open;
use super::{BASE64, is_legal_path};
use crate::Failure;
use crate::control::Control;
use crate::http::auth::Target;
use crate::http::json::BulkJson;

/// Most files of one request: a generated app has dozens.
const FILES_MAX: usize = 1000;

/// A file with its content.
struct Wanted {
    path: String,
    content: Bytes,
}

/// Write many files
#[utoipa::path(post, path = "/sandboxes/{id}/files/write-many", tag = "files",
    params(("id" = String, Path, description = "Sandbox id")), request_body = WriteMany,
    responses((status = 200, body = Data<WrittenMany>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 413, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn write_many(
    State(control): State<Arc<Control>>,
    target: Target,
    BulkJson(body): BulkJson<WriteMany>,
) -> Result<Json<Data<WrittenMany>>, Failure> {
    let files = parse(body)?;
    let guest = control.guest(&target.record)?;
    let mut done = WrittenMany::default();
    for file in files {
        let size_bytes = file.content.len() as u64;
        match write(&guest, &file.path, file.content).await {
            Ok(()) => done.written.push(WrittenFile {
                path: file.path,
                size_bytes,
            }),
            // The next would fail as well, and what is written stays so.
            Err(failure) if failure.is_about_the_sandbox() => return Err(failure),
            Err(failure) => done.failed.push(FailedFile {
                path: file.path,
                code: failure.code().as_str().to_owned(),
                error: failure.message,
            }),
        }
    }
    Ok(Json(Data { data: done }))
}

/// The same under the older clients' name
#[utoipa::path(post, path = "/sandboxes/{id}/files/batch", tag = "files",
    params(("id" = String, Path, description = "Sandbox id")), request_body = WriteMany,
    responses((status = 200, body = Data<WrittenMany>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 413, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(in crate::http) async fn write_batch(
    control: State<Arc<Control>>,
    target: Target,
    body: BulkJson<WriteMany>,
) -> Result<Json<Data<WrittenMany>>, Failure> {
    write_many(control, target, body).await
}

/// Nothing is written if anything here is wrong.
fn parse(body: WriteMany) -> Result<Vec<Wanted>, Failure> {
    let count = body.files.len();
    if count == 0 || count > FILES_MAX {
        let message = format!("must hold between 1 and {FILES_MAX} files");
        return Err(Failure::invalid_field("files", message));
    }
    let mut errors = Vec::new();
    let mut files = Vec::with_capacity(count);
    for (index, file) in body.files.into_iter().enumerate() {
        match wanted(index, file) {
            Ok(file) => files.push(file),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(files)
    } else {
        Err(Failure::invalid(&errors))
    }
}

fn wanted(index: usize, file: FileToWrite) -> Result<Wanted, FieldError> {
    let field = |name: &str| format!("files[{index}].{name}");
    if !is_legal_path(&file.path) {
        return Err(FieldError::new(field("path"), "must be an absolute path"));
    }
    let (name, text) = match (file.content_base64, file.content) {
        (Some(text), _) => ("content_base64", text),
        (None, Some(text)) => ("content", text),
        (None, None) => return Err(FieldError::new(field("content_base64"), "is required")),
    };
    let content = BASE64
        .decode(text)
        .map_err(|_| FieldError::new(field(name), "is not base64"))?;
    Ok(Wanted {
        path: file.path,
        content: content.into(),
    })
}

async fn write(guest: &GuestClient, path: &str, content: Bytes) -> Result<(), Failure> {
    let mut writer = open(guest, path, content.len() as u64).await?;
    if !content.is_empty() {
        writer.write(content).await?;
    }
    writer.finish().await?;
    Ok(())
}
