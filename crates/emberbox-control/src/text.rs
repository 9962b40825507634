//! Text out of bytes that arrive in pieces.

/// Bytes of a character that is not complete yet, at most.
const SPLIT_MAX: usize = 3;

/// How much of `bytes` ends between two characters, as far as it is text.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(SPLIT_MAX);
    for start in (tail..bytes.len()).rev() {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            // The start of a character whose rest has not come.
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => return start,
            Err(_) => {}
        }
    }
    bytes.len()
}

/// Turns pieces of a byte stream into text; what is no UTF-8 is replaced, but
/// never a character that is only cut in two.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The start of a character.
    held: Vec<u8>,
}

impl Decoder {
    /// The text of one more piece.
    pub(crate) fn push(&mut self, data: &[u8]) -> String {
        self.held.extend_from_slice(data);
        let end = whole_characters(&self.held);
        let text = String::from_utf8_lossy(&self.held[..end]).into_owned();
        self.held.drain(..end);
        text
    }

    /// What is left at the end of the stream.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_characters_wait_and_garbage_does_not() {
        let mut decoder = Decoder::default();
        let text = "a€🦀";
        let mut decoded = String::new();
        for byte in text.as_bytes() {
            decoded += &decoder.push(&[*byte]);
        }
        assert_eq!(decoded, text);
        assert_eq!(decoder.push(b"x\xff"), "x\u{fffd}");
        assert_eq!(decoder.push(&"€".as_bytes()[..2]), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }
}
