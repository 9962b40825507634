//! The parts of a JSON upload, decoded while they arrive.
//!
//! A file of 100 MB is 134 MB of base64 inside one JSON string, so the string
//! is never held: the parser is a thread that reads the body through a small
//! channel and hands decoded pieces back through another.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use base64::read::DecoderReader;
use bytes::{Buf, Bytes};
use emberbox_api::ErrorCode;
use struson::reader::{JsonReader, JsonStreamReader, ReaderError, ValueType};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::BASE64;
use super::part::Part;
use super::path::PATH_MAX;
use super::sink::Sink;
use super::upload::OVERHEAD;
use crate::Failure;
use crate::http::body::BodyReader;

/// Frames of the body, and decoded pieces, on their way at the same time:
/// enough that neither side waits for a switch of threads each time.
const QUEUE: usize = 4;

/// Size of a decoded piece.
const PIECE: usize = 48 * 1024;

/// Reads a JSON body into the sink.
pub(super) async fn read(body: &mut BodyReader, sink: Sink) -> Result<(String, u64), Failure> {
    let (frames, frames_rx) = mpsc::channel(QUEUE);
    let (parts, parts_rx) = mpsc::channel(QUEUE);
    let parse = spawn_blocking(move || parse(frames_rx, &parts));
    let feed = async move {
        while let Some(frame) = body.next().await? {
            if frames.send(frame).await.is_err() {
                break;
            }
        }
        Ok::<_, Failure>(())
    };
    let (fed, parsed, taken) = tokio::join!(feed, parse, take(parts_rx, sink));
    // A body that broke off or a sink that refused is why the parser failed,
    // where both happened.
    fed?;
    let sink = taken?;
    parsed.map_err(Failure::internal)??;
    sink.finish("content").await
}

/// Owns the receiving end, so that a refusal stops the parser.
async fn take(mut parts: mpsc::Receiver<Part>, mut sink: Sink) -> Result<Sink, Failure> {
    while let Some(part) = parts.recv().await {
        sink.take(part).await?;
    }
    Ok(sink)
}

fn parse(frames: mpsc::Receiver<Bytes>, parts: &mpsc::Sender<Part>) -> Result<(), Failure> {
    let budget = Rc::new(Cell::new(Some(OVERHEAD)));
    let mut json = JsonStreamReader::new(Frames {
        frames,
        current: Bytes::new(),
        budget: Rc::clone(&budget),
    });
    if json.peek().map_err(malformed)? != ValueType::Object {
        return Err(Failure::invalid_field("body", "must be a JSON object"));
    }
    json.begin_object().map_err(malformed)?;
    while json.has_next().map_err(malformed)? {
        let name = json.next_name().map_err(malformed)?.to_owned();
        let string = json.peek().map_err(malformed)? == ValueType::String;
        match name.as_str() {
            "path" | "content" if !string => {
                return Err(Failure::invalid_field(&name, "must be a string"));
            }
            "path" => {
                let path = json.next_string().map_err(malformed)?;
                if path.len() > PATH_MAX {
                    return Err(Failure::new(ErrorCode::InvalidPath, "path is too long"));
                }
                send(parts, Part::Path(path))?;
            }
            "content" => {
                send(parts, Part::Begin)?;
                let outside = budget.replace(None);
                decode(json.next_string_reader().map_err(malformed)?, parts)?;
                budget.set(outside);
            }
            _unknown => json.skip_value().map_err(malformed)?,
        }
    }
    json.end_object().map_err(malformed)?;
    json.consume_trailing_whitespace().map_err(malformed)
}

fn decode(text: impl Read, parts: &mpsc::Sender<Part>) -> Result<(), Failure> {
    let mut decoded = DecoderReader::new(text, &BASE64);
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = decoded.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        match read {
            Ok(0) => return Ok(()),
            Ok(_) => send(parts, Part::Data(piece.into()))?,
            // The decoder's own complaints are the only ones of this kind;
            // everything else comes from the JSON below it.
            Err(error)
                if error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<base64::DecodeError>()) =>
            {
                return Err(Failure::invalid_field("content", "is not base64"));
            }
            Err(error) => {
                return Err(Failure::because(
                    ErrorCode::InvalidJson,
                    "the request body is not JSON",
                    error,
                ));
            }
        }
    }
}

fn send(parts: &mpsc::Sender<Part>, part: Part) -> Result<(), Failure> {
    // The sink has refused and says why itself.
    parts
        .blocking_send(part)
        .map_err(|_closed| Failure::internal("the upload was refused"))
}

fn malformed(error: ReaderError) -> Failure {
    if let ReaderError::IoError { error, .. } = &error
        && error
            .get_ref()
            .is_some_and(|inner| inner.is::<OverBudget>())
    {
        return Failure::new(
            ErrorCode::BodyTooLarge,
            "the request body holds too much besides the content",
        );
    }
    Failure::new(
        ErrorCode::InvalidJson,
        format!("the request body is not JSON: {error}"),
    )
}

/// The body as the parser's thread reads it.
struct Frames {
    frames: mpsc::Receiver<Bytes>,
    current: Bytes,
    /// How much more may be read outside the content, where the parser keeps
    /// what it reads.
    budget: Rc<Cell<Option<u64>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("too much besides the content")]
struct OverBudget;

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.frames.blocking_recv() {
                Some(frame) => self.current = frame,
                None => return Ok(0),
            }
        }
        let read = buffer.len().min(self.current.len());
        if let Some(left) = self.budget.get() {
            let left = left.checked_sub(read as u64);
            self.budget
                .set(Some(left.ok_or_else(|| io::Error::other(OverBudget))?));
        }
        self.current.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
