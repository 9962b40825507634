//! Where the parts of an upload go: into the guest as they come, or into a
//! file on this host while the path is not known yet.

use std::io::SeekFrom;

use bytes::{Bytes, BytesMut};
use emberbox_api::ErrorCode;
use emberbox_guest::WriteSpec;
use emberbox_guest::client::{FileWriter, GuestClient};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::check_path;
use super::part::Part;
use crate::Failure;

/// How much of a spooled file is read at a time.
const COPY: usize = 64 * 1024;

/// A file being received. Dropping it leaves nothing, neither here (the spool
/// has no name) nor in the guest.
pub(super) struct Sink {
    guest: GuestClient,
    limit: u64,
    size: u64,
    path: Option<String>,
    content: Content,
}

enum Content {
    /// Nothing of it came yet.
    Missing,
    /// It goes straight into the guest.
    Direct(FileWriter),
    /// Its path comes later.
    Spooled(File),
}

impl Sink {
    /// A sink for one file of at most `limit` bytes.
    pub(super) fn new(guest: GuestClient, limit: u64) -> Self {
        Self {
            guest,
            limit,
            size: 0,
            path: None,
            content: Content::Missing,
        }
    }

    /// Takes the next part.
    pub(super) async fn take(&mut self, part: Part) -> Result<(), Failure> {
        match part {
            Part::Path(path) => {
                if self.path.replace(check_path(path)?).is_some() {
                    return Err(Failure::invalid_field("path", "is given twice"));
                }
                Ok(())
            }
            Part::Begin => self.begin().await,
            Part::Data(data) => self.data(data).await,
        }
    }

    /// Puts the file under its name: its path and its size.
    pub(super) async fn finish(self, content_field: &str) -> Result<(String, u64), Failure> {
        let path = self
            .path
            .ok_or_else(|| Failure::invalid_field("path", "is required"))?;
        let writer = match self.content {
            Content::Missing => {
                return Err(Failure::invalid_field(content_field, "is required"));
            }
            Content::Direct(writer) => writer,
            Content::Spooled(spool) => {
                let writer = open(&self.guest, &path, self.limit).await?;
                copy(spool, writer).await?
            }
        };
        let size = writer.finish().await?;
        Ok((path, size))
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        if !matches!(self.content, Content::Missing) {
            return Err(Failure::invalid_field("file", "is given twice"));
        }
        self.content = match &self.path {
            Some(path) => Content::Direct(open(&self.guest, path, self.limit).await?),
            None => {
                let spool = tempfile::tempfile().map_err(Failure::internal)?;
                Content::Spooled(File::from_std(spool))
            }
        };
        Ok(())
    }

    async fn data(&mut self, data: Bytes) -> Result<(), Failure> {
        self.size += data.len() as u64;
        if self.size > self.limit {
            return Err(Failure::new(
                ErrorCode::FileTooLarge,
                format!("the file is over the limit of {} bytes", self.limit),
            ));
        }
        match &mut self.content {
            Content::Direct(writer) => Ok(writer.write(data).await?),
            Content::Spooled(spool) => spool.write_all(&data).await.map_err(Failure::internal),
            Content::Missing => Err(Failure::internal("data before the file began")),
        }
    }
}

pub(super) async fn open(
    guest: &GuestClient,
    path: &str,
    limit: u64,
) -> Result<FileWriter, Failure> {
    let spec = WriteSpec {
        path: path.to_owned(),
        mode: None,
        limit,
    };
    Ok(guest.write_file(spec).await?)
}

async fn copy(mut spool: File, mut writer: FileWriter) -> Result<FileWriter, Failure> {
    spool
        .seek(SeekFrom::Start(0))
        .await
        .map_err(Failure::internal)?;
    loop {
        let mut piece = BytesMut::with_capacity(COPY);
        let read = spool
            .read_buf(&mut piece)
            .await
            .map_err(Failure::internal)?;
        if read == 0 {
            return Ok(writer);
        }
        writer.write(piece.freeze()).await?;
    }
}
