//! What a guest, or whoever reaches an agent's port, may send.

#![no_main]

use emberbox_guest::frame::{self, FrameError};
use emberbox_guest::{FromAgent, ToAgent};
use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    frames::<ToAgent>(bytes);
    frames::<FromAgent>(bytes);
});

/// Reads frames until one is refused. What is read is written the same again.
fn frames<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(mut bytes: &[u8]) {
    let mut buffer = Vec::new();
    loop {
        // Bytes that are here are never waited for.
        let read = frame::read::<T>(&mut bytes, &mut buffer).now_or_never();
        match read.expect("nothing to wait for") {
            Ok(message) => {
                let mut written = Vec::new();
                let write = frame::write(&mut written, &message).now_or_never();
                write
                    .expect("nothing to wait for")
                    .expect("it was short enough");
                let again = frame::read::<T>(&mut written.as_slice(), &mut buffer).now_or_never();
                let again = again.expect("nothing to wait for").expect("it was written");
                assert_eq!(again, message);
            }
            Err(FrameError::TooLong(length)) => {
                assert!(length > frame::MAX_FRAME);
                return;
            }
            Err(FrameError::Io(_) | FrameError::Closed | FrameError::Malformed(_)) => return,
        }
        assert!(buffer.len() <= frame::MAX_FRAME);
    }
}
