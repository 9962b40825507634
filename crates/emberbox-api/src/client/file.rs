//! Files of a sandbox.

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method, Response};

use super::{
    Client, ClientError, DirectoryEvent, EventStream, encoded, of_sandbox, read, send, stream,
};
use crate::{Data, FileInfo, Listing, StatRequest, Uploaded};

/// What a path keeps in a URL besides letters and digits.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

impl Client {
    /// Writes a file. A body made from a stream is streamed; its length, when
    /// known, lets the server refuse it before it is sent.
    pub async fn upload(
        &self,
        id: &str,
        path: &str,
        content: impl Into<Body>,
        length: Option<u64>,
    ) -> Result<Uploaded, ClientError> {
        let file = match length {
            Some(length) => Part::stream_with_length(content, length),
            None => Part::stream(content),
        };
        let form = Form::new()
            .text("path", path.to_owned())
            .part("file", file.file_name("file"));
        let url = format!("/sandboxes/{}/files", encoded(id));
        let answer: Data<_> = read(self.request(Method::POST, &url).multipart(form)).await?;
        Ok(answer.data)
    }

    /// Opens a file.
    pub async fn download(&self, id: &str, path: &str) -> Result<Download, ClientError> {
        let file = utf8_percent_encode(path.trim_start_matches('/'), PATH);
        let url = format!("/sandboxes/{}/files/{file}", encoded(id));
        let response = send(self.request(Method::GET, &url)).await?;
        Ok(Download { response })
    }

    /// A directory's content.
    pub async fn list_files(&self, id: &str, path: &str) -> Result<Listing, ClientError> {
        let (id, path) = (encoded(id), encoded(path));
        let answer: Data<_> = self
            .get(&format!("/sandboxes/{id}/files?path={path}"))
            .await?;
        Ok(answer.data)
    }

    /// What happens in a directory from now on, also below it if that is
    /// asked for; ends with it.
    pub async fn watch(
        &self,
        id: &str,
        path: &str,
        reach: Reach,
    ) -> Result<EventStream<DirectoryEvent>, ClientError> {
        let (path, recursive) = (encoded(path), reach == Reach::Below);
        let rest = format!("files/watch?path={path}&recursive={recursive}");
        let request = self.request(Method::GET, &of_sandbox(id, &rest));
        EventStream::open(request, stream::directory).await
    }

    /// What a path is.
    pub async fn stat(&self, id: &str, path: &str) -> Result<FileInfo, ClientError> {
        let url = format!("/sandboxes/{}/files/stat", encoded(id));
        let request = StatRequest {
            path: path.to_owned(),
        };
        let answer: Data<_> = self.post(&url, &request).await?;
        Ok(answer.data)
    }
}

/// How much of a directory is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What is in it.
    Directory,
    /// And everything below.
    Below,
}

/// A file on its way here.
pub struct Download {
    response: Response,
}

impl Download {
    /// Its length, if the server knows it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes, or `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        Ok(self.response.chunk().await?)
    }

    /// All of it at once.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        Ok(self.response.bytes().await?)
    }
}
