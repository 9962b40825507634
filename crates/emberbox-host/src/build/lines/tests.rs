use super::*;

#[test]
fn pieces_become_lines() {
    let (mut lines, mut out, mut err) = (Lines::default(), Stream::default(), Stream::default());
    assert_eq!(lines.push(&mut out, b"one\ntw"), ["one"]);
    assert_eq!(lines.push(&mut err, b"warning\r\n"), ["warning"]);
    assert_eq!(lines.push(&mut out, b"o\n\n\xff"), ["two", ""]);
    assert_eq!(lines.rest(&mut out), ["\u{fffd}"]);
    assert_eq!(lines.rest(&mut err), [] as [String; 0]);
}

#[test]
fn a_long_line_goes_on_in_the_next() {
    let (mut lines, mut out) = (Lines::default(), Stream::default());
    let told = lines.push(&mut out, &vec![b'x'; 2 * MAX_LINE + 1]);
    assert_eq!(told.len(), 2);
    assert_eq!(lines.rest(&mut out), ["x"]);
}

#[test]
fn endless_output_is_told_to_an_end() {
    let (mut lines, mut out) = (Lines::default(), Stream::default());
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(lines.push(&mut out, &b"yes\n".repeat(MAX_OUTPUT / 4)));
    }
    assert_eq!(told.len(), MAX_OUTPUT / 4 + 1);
    assert_eq!(told.last().unwrap(), "(more output is not shown)");
}
