//! Files to take out of a sandbox: one as it is, several or a directory as a
//! `tar.gz` that is made inside the guest and passed on as it comes.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use emberbox_api::{
    BASE_PATH, CreateExport, Data, ErrorCode, ErrorResponse, Export, ExportedFile, FieldError,
};
use emberbox_core::SandboxId;
use emberbox_guest::FileKind;
use emberbox_guest::client::GuestClient;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa::IntoParams;

use super::auth::Target;
use super::files::{check_path, download as file, file_name};
use super::json::{JsonBody, QueryString};
use crate::Failure;
use crate::control::Control;

mod archive;

/// Most paths of one export: the command that packs them takes them all.
const PATHS_MAX: usize = 100;

/// Longest label and file name, in bytes: what file systems take for a name.
const TEXT_MAX: usize = 255;

/// Describe files to download
#[utoipa::path(post, path = "/sandboxes/{id}/exports", tag = "files",
    params(("id" = String, Path, description = "Sandbox id")), request_body = CreateExport,
    responses((status = 201, body = Data<Export>), (status = 404, body = ErrorResponse),
        (status = 409, body = ErrorResponse), (status = 422, body = ErrorResponse)))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    target: Target,
    JsonBody(body): JsonBody<CreateExport>,
) -> Result<(StatusCode, Json<Data<Export>>), Failure> {
    let label = body.label;
    if label.as_ref().is_some_and(|label| label.len() > TEXT_MAX) {
        let message = format!("must be at most {TEXT_MAX} bytes");
        return Err(Failure::invalid_field("label", message));
    }
    let mut paths = body.paths.unwrap_or_default();
    paths.extend(body.path);
    let wanted = Wanted::new(paths, body.filename)?;
    let guest = control.guest(&target.record)?;
    let id = target.record.id;
    let mut files = Vec::new();
    for path in &wanted.paths {
        let stat = guest.stat(path).await?;
        let is_dir = stat.kind == FileKind::Directory;
        let one = Wanted {
            paths: vec![path.clone()],
            filename: wanted.filename.clone().filter(|_| wanted.paths.len() == 1),
        };
        files.push(ExportedFile {
            path: path.clone(),
            filename: one.name(if is_dir { Form::Archive } else { Form::File }),
            is_dir,
            size: (stat.kind == FileKind::File).then_some(stat.size),
            download_url: one.url(&id, "path"),
        });
    }
    let ulid = ulid::Ulid::generate().to_string().to_ascii_lowercase();
    let data = Export {
        id: format!("exp_{ulid}"),
        status: "ready".to_owned(),
        label,
        files,
        archive_download_url: wanted.url(&id, "paths[]"),
        sandbox_id: id,
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}

/// How a download may be asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's view of a query with repeated names"
)]
pub(super) struct DownloadQuery {
    /// An absolute path; a file comes as it is, a directory as a `tar.gz`.
    path: Option<String>,
    /// Each of several paths, which come as one `tar.gz`.
    #[param(rename = "paths[]")]
    paths: Option<Vec<String>>,
    /// What the download is called.
    filename: Option<String>,
}

/// Download one file, or several and directories as a `tar.gz`
#[utoipa::path(get, path = "/sandboxes/{id}/exports/download", tag = "files",
    params(("id" = String, Path, description = "Sandbox id"), DownloadQuery),
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse),
        (status = 422, body = ErrorResponse)))]
pub(super) async fn download(
    State(control): State<Arc<Control>>,
    target: Target,
    QueryString(query): QueryString<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let (mut paths, mut filename, mut together) = (Vec::new(), None, false);
    for (name, value) in query {
        match name.as_str() {
            "path" => paths.push(value),
            "paths[]" | "paths" => {
                together = true;
                paths.push(value);
            }
            "filename" => filename = Some(value),
            _ => {}
        }
    }
    let wanted = Wanted::new(paths, filename)?;
    let guest = control.guest(&target.record)?;
    match wanted.paths.as_slice() {
        [path] if !together => match guest.stat(path).await?.kind {
            FileKind::Directory => wanted.archive(&guest).await,
            FileKind::File | FileKind::Symlink | FileKind::Other => {
                let (length, bytes) = file::stream(guest.read_file(path).await?).await?;
                let mut response = wanted.respond(Body::from_stream(bytes), Form::File);
                if let Some(length) = length {
                    let length = HeaderValue::from(length);
                    response
                        .headers_mut()
                        .insert(header::CONTENT_LENGTH, length);
                }
                Ok(response)
            }
        },
        paths => {
            for path in paths {
                guest.stat(path).await?;
            }
            wanted.archive(&guest).await
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    Archive,
}

/// What is to be exported.
struct Wanted {
    paths: Vec<String>,
    filename: Option<String>,
}

impl Wanted {
    fn new(paths: Vec<String>, filename: Option<String>) -> Result<Self, Failure> {
        if paths.is_empty() {
            let message = "path or paths is required";
            return Err(Failure::new(ErrorCode::MissingParam, message));
        }
        let mut errors = Vec::new();
        if paths.len() > PATHS_MAX {
            let message = format!("must be at most {PATHS_MAX}");
            errors.push(FieldError::new("paths", message));
        }
        if filename.as_ref().is_some_and(|name| !is_file_name(name)) {
            let message = format!("must be a name of at most {TEXT_MAX} bytes without slashes");
            errors.push(FieldError::new("filename", message));
        }
        if !errors.is_empty() {
            return Err(Failure::invalid(&errors));
        }
        let paths = paths.into_iter().map(check_path);
        Ok(Self {
            paths: paths.collect::<Result<_, _>>()?,
            filename,
        })
    }

    fn name(&self, form: Form) -> String {
        if let Some(name) = &self.filename {
            return name.clone();
        }
        let only = match self.paths.as_slice() {
            [path] => Some(file_name(path)).filter(|name| name != "/"),
            _ => None,
        };
        match form {
            Form::File => only.unwrap_or_else(|| "file".to_owned()),
            Form::Archive => format!("{}.tar.gz", only.unwrap_or_else(|| "export".to_owned())),
        }
    }

    fn url(&self, id: &SandboxId, parameter: &str) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let parameter = encoded(parameter);
        let paths = self.paths.iter();
        let mut pairs: Vec<_> = paths
            .map(|path| format!("{parameter}={}", encoded(path)))
            .collect();
        pairs.extend(
            self.filename
                .iter()
                .map(|name| format!("filename={}", encoded(name))),
        );
        let query = pairs.join("&");
        format!("{BASE_PATH}/sandboxes/{id}/exports/download?{query}")
    }

    async fn archive(&self, guest: &GuestClient) -> Result<Response, Failure> {
        let bytes = archive::pack(guest, &self.paths).await?;
        Ok(self.respond(Body::from_stream(bytes), Form::Archive))
    }

    fn respond(&self, body: Body, form: Form) -> Response {
        let mut response = body.into_response();
        let content_type = match form {
            Form::File => "application/octet-stream",
            Form::Archive => "application/gzip",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let name = utf8_percent_encode(&self.name(form), NON_ALPHANUMERIC).to_string();
        // The form that takes any name (RFC 8187).
        let disposition = format!("attachment; filename*=UTF-8''{name}");
        if let Ok(disposition) = HeaderValue::try_from(disposition) {
            headers.insert(header::CONTENT_DISPOSITION, disposition);
        }
        response
    }
}

fn is_file_name(name: &str) -> bool {
    let special = |c: char| c == '/' || c.is_control();
    !name.is_empty() && name.len() <= TEXT_MAX && !name.contains(special)
}
