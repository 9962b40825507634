//! Files that stream through a call.

use bytes::Bytes;

use super::{ANSWER, Call, ClientError, FileStat, FromAgent, PREPARE_SEED, ToAgent};
use crate::message::CHUNK;

/// A file on its way into a guest.
pub struct FileWriter {
    call: Call,
}

impl FileWriter {
    pub(super) fn new(call: Call) -> Self {
        Self { call }
    }

    /// Sends the next bytes, any number; waits while the guest is busy.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), ClientError> {
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(CHUNK));
            self.call.send(&ToAgent::Data(chunk)).await?;
        }
        Ok(())
    }

    /// Puts the file under its name; returns its size in bytes.
    pub async fn finish(mut self) -> Result<u64, ClientError> {
        self.call.send(&ToAgent::End).await?;
        match self.call.answer(ANSWER).await? {
            FromAgent::Written { size } => {
                self.call.finish();
                Ok(size)
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}

/// A file on its way out of a guest.
pub struct FileReader {
    call: Call,
    stat: FileStat,
}

impl FileReader {
    pub(super) fn new(call: Call, stat: FileStat) -> Self {
        Self { call, stat }
    }

    /// What the guest said about the file when it was opened.
    #[must_use]
    pub fn stat(&self) -> &FileStat {
        &self.stat
    }

    /// The next bytes, or `None` at the end. Not cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        match self.call.answer(ANSWER).await? {
            FromAgent::Data(data) => Ok(Some(data)),
            FromAgent::End { .. } => {
                self.call.finish();
                Ok(None)
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}

/// Many files on their way out of a guest, as one archive.
pub struct ArchiveReader {
    call: Call,
}

impl ArchiveReader {
    pub(super) fn new(call: Call) -> Self {
        Self { call }
    }

    /// The next bytes, or `None` at the end. Not cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        // Looking for what has changed may take as long as warming a seed.
        match self.call.answer(PREPARE_SEED).await? {
            FromAgent::Data(data) => Ok(Some(data)),
            FromAgent::End { .. } => {
                self.call.finish();
                Ok(None)
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}
