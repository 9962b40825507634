use OutputStream::{Stderr, Stdout};
use emberbox_guest::OutputStream;
use serde_json::{Value, json};

use super::stream::{Output, Position, Told};
use super::*;
use crate::http::exec::Line;

#[test]
fn the_last_lines_are_counted_from_the_end() {
    for (log, count, lines) in [
        ("a\nb\nc\n", 2, "b\nc\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 1, "b\n"),
        ("a\nb\n", 2, "a\nb\n"),
        ("a\nb\n", 200, "a\nb\n"),
        ("a\n\n", 1, "\n"),
        ("a\n", 0, ""),
        ("", 5, ""),
        ("\n", 1, "\n"),
    ] {
        assert_eq!(
            last_lines(log.as_bytes(), count),
            lines.as_bytes(),
            "{log:?} {count}"
        );
    }
    assert_eq!(last_lines(b"a\nb", usize::MAX), b"a\nb");
}

#[test]
fn signals_have_names_and_numbers() {
    for (signal, number) in [
        (json!("SIGKILL"), 9),
        (json!("term"), 15),
        (json!("Int"), 2),
        (json!(9), 9),
        (json!(64), 64),
    ] {
        assert_eq!(signal::number(&signal).unwrap(), number);
    }
    for wrong in [
        json!(0),
        json!(65),
        json!(-9),
        json!(1.5),
        json!("SIGNOPE"),
        json!("9x"),
        json!(""),
        json!("SIGSIGKILL"),
        json!([9]),
        json!(true),
        Value::Null,
    ] {
        let refused = signal::number(&wrong).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::ValidationError, "{wrong}");
    }
}

#[test]
fn every_wrong_field_is_named() {
    let body = json!({"command": " ", "cwd": "x", "timeout": -1, "name": "n".repeat(200),
        "env": {"A=B": ""}});
    let refused = parse(serde_json::from_value(body).unwrap()).unwrap_err();
    let details = refused.details.unwrap();
    let fields: Vec<_> = details
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["field"])
        .collect();
    assert_eq!(fields, ["command", "cwd", "timeout", "name", "env.A=B"]);
    let spec = parse(serde_json::from_value(json!({"command": "x"})).unwrap()).unwrap();
    assert_eq!((spec.exec.cwd.as_str(), spec.exec.timeout_ms), ("/root", 0));
    assert!(spec.exec.stdin);
}

/// What no `\n` ended has a mark.
fn shown(line: &Line) -> String {
    format!("{}{}", line.text, if line.newline { "" } else { "…" })
}

/// Lines and gaps as text, each with the id after it.
fn told(output: &mut Output) -> Vec<String> {
    let mut all = Vec::new();
    for told in output.waiting.drain(..) {
        all.push(match told {
            Told::Line(Stdout, line, after) => format!("out {} @{after}", shown(&line)),
            Told::Line(Stderr, line, after) => format!("err {} @{after}", shown(&line)),
            Told::Gap(missed, after) => format!("gap {missed} @{after}"),
            Told::Exit(_) | Told::Lost(_) => unreachable!("only output was pushed"),
        });
    }
    all
}

fn at(text: &str) -> Output {
    Output::new(Position::parse(text).unwrap())
}

#[test]
fn an_id_says_where_to_read_on_in_each_stream() {
    let mut output = at("0");
    output.push(0, Stdout, b"one\ntw");
    output.push(6, Stderr, b"bad\nwo");
    output.push(12, Stdout, b"o\n");
    output.push(14, Stderr, b"rse\n");
    let whole = [
        "out one @4",
        "err bad @4-10",
        "out two @14-10",
        "err worse @18",
    ];
    assert_eq!(told(&mut output), whole);
    // Coming back after each of them tells the rest and nothing twice.
    for (id, rest) in [
        ("4", &whole[1..]),
        ("4-10", &whole[2..]),
        ("14-10", &whole[3..]),
    ] {
        let mut output = at(id);
        let first = Position::parse(id).unwrap();
        let pieces: [(u64, _, &[u8]); 4] = [
            (0, Stdout, b"one\ntw"),
            (6, Stderr, b"bad\nwo"),
            (12, Stdout, b"o\n"),
            (14, Stderr, b"rse\n"),
        ];
        for (offset, stream, data) in pieces {
            let from = first.stdout.min(first.stderr).max(offset);
            // As the guest does: what is before the first wanted byte is not sent.
            if let Some(wanted) = data
                .get((from - offset) as usize..)
                .filter(|d| !d.is_empty())
            {
                output.push(from, stream, wanted);
            }
        }
        assert_eq!(told(&mut output), rest, "{id}");
    }
}

#[test]
fn gaps_end_open_lines() {
    let mut output = at("0");
    output.push(0, Stdout, b"half");
    output.push(100, Stdout, b"whole\n");
    output.push(106, Stderr, b"end");
    output.close();
    let expected = [
        "out half… @4",
        "gap 96 @100",
        "out whole @106",
        "err end… @109",
    ];
    assert_eq!(told(&mut output), expected);
}

#[test]
fn ids_that_are_none() {
    for text in ["", "x", "-1", "1-", "1-2-3", "99999999999999999999999"] {
        assert_eq!(Position::parse(text), None, "{text}");
    }
}
