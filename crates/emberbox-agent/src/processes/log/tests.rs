use OutputStream::{Stderr, Stdout};

use super::*;

fn pieces(log: &Log, mut from: u64) -> Vec<(u64, OutputStream, String)> {
    let mut all = Vec::new();
    while let Some(piece) = log.read(from) {
        from = piece.offset + piece.data.len() as u64;
        let text = String::from_utf8(piece.data.to_vec()).unwrap();
        all.push((piece.offset, piece.stream, text));
    }
    all
}

#[test]
fn streams_stay_apart_and_in_order() {
    let mut log = Log::default();
    log.append(Stdout, b"one ");
    log.append(Stdout, b"two");
    log.append(Stderr, b"three");
    log.append(Stdout, b"");
    log.append(Stdout, b"four");
    let whole = [
        (0, Stdout, "one two".to_owned()),
        (7, Stderr, "three".to_owned()),
        (12, Stdout, "four".to_owned()),
    ];
    assert_eq!(pieces(&log, 0), whole);
    assert_eq!(pieces(&log, 7), whole[1..]);
    assert_eq!(pieces(&log, 9)[0], (9, Stderr, "ree".to_owned()));
    assert_eq!(log.end(), 16);
    assert_eq!(log.read(16), None);
    assert_eq!(log.read(u64::MAX), None);
}

#[test]
fn the_newest_bytes_are_kept() {
    let mut log = Log::default();
    log.append(Stderr, b"oldest");
    log.append(Stdout, &vec![b'x'; 3 * LOG_BYTES]);
    log.append(Stderr, b"newest");
    assert_eq!(log.bytes.len(), LOG_BYTES);
    assert_eq!(log.end(), (3 * LOG_BYTES + 12) as u64);
    let first = log.read(0).unwrap();
    assert_eq!(first.offset, log.end() - LOG_BYTES as u64);
    assert_eq!((first.stream, first.data.len()), (Stdout, CHUNK));
    let last = pieces(&log, 0).pop().unwrap();
    assert_eq!(last, (log.end() - 6, Stderr, "newest".to_owned()));
}

#[test]
fn streams_that_change_at_every_byte_are_bounded_too() {
    let mut log = Log::default();
    for _ in 0..SEGMENTS {
        log.append(Stdout, b"o");
        log.append(Stderr, b"e");
    }
    assert_eq!(log.segments.len(), SEGMENTS);
    assert_eq!(pieces(&log, 0).len(), SEGMENTS);
    assert_eq!(log.end(), 2 * SEGMENTS as u64);
    log.seal();
    assert_eq!(pieces(&log, log.end() - 1)[0].2, "e");
}
