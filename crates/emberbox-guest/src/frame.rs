//! Framing: a big-endian `u32` length, then that many bytes of postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame in bytes: a command line with its environment is the largest
/// message, and Linux takes no more than 2 MiB of both together.
pub const MAX_FRAME: usize = 2 * 1024 * 1024 + 4096;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side went away in the middle of a frame, or the socket failed.
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    /// The other side closed between frames.
    #[error("connection closed")]
    Closed,
    /// The announced length is over [`MAX_FRAME`].
    #[error("frame of {0} bytes is over the limit")]
    TooLong(usize),
    /// Not a message of this protocol generation.
    #[error("malformed frame")]
    Malformed(#[from] postcard::Error),
}

/// Reads one frame. `buffer` is scratch space that is kept between calls.
///
/// Not cancel-safe: after a drop in the middle the stream must be closed.
pub async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Result<T, FrameError> {
    let mut length = [0; 4];
    let first = stream.read(&mut length).await?;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    stream.read_exact(&mut length[first..]).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    buffer.clear();
    // Grows with what really arrives, not with what was announced.
    let got = stream.take(length as u64).read_to_end(buffer).await?;
    if got < length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(postcard::from_bytes(buffer)?)
}

/// Writes one frame with a single write.
pub async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4])?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    // MAX_FRAME fits u32, so the cast keeps the value.
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    stream.write_all(&frame).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
