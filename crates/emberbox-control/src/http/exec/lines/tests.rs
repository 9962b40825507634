use super::*;

fn ended(text: &str) -> Line {
    Line {
        text: text.to_owned(),
        newline: true,
    }
}

fn open(text: &str) -> Line {
    Line {
        text: text.to_owned(),
        newline: false,
    }
}

#[test]
fn lines_end_where_the_process_ended_them() {
    let mut lines = Lines::default();
    assert_eq!(lines.push(b"one\ntw"), [ended("one")]);
    assert_eq!(lines.push(b"o\r\n\n"), [ended("two\r"), ended("")]);
    assert_eq!(lines.rest(), None);
    assert!(lines.push(b"no end").is_empty());
    assert_eq!(lines.rest(), Some(open("no end")));
    assert_eq!(lines.rest(), None);
}

#[test]
fn a_character_may_arrive_in_two_pieces() {
    let mut lines = Lines::default();
    let euro = "€".as_bytes();
    assert!(lines.push(&euro[..1]).is_empty());
    assert_eq!(lines.push(&[&euro[1..], b"\n"].concat()), [ended("€")]);
    assert_eq!(lines.push(b"a\xffb\n"), [ended("a\u{fffd}b")]);
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let mut lines = Lines::default();
    let text = "é".repeat(LINE_MAX);
    let odd = format!("x{text}");
    let mut pieces = lines.push(odd.as_bytes());
    assert!(pieces.iter().all(|piece| piece.text.len() <= LINE_MAX));
    pieces.extend(lines.rest());
    assert!(pieces.iter().all(|piece| !piece.newline));
    let whole: String = pieces.into_iter().map(|piece| piece.text).collect();
    assert_eq!(whole, odd);
    // What is no text at all is cut as well.
    let waste = lines.push(&[0xff; LINE_MAX + 1]);
    assert_eq!(waste.len(), 1);
}
